"""What `exfuse budget` does: count a study's hours, and say what it takes to tell a difference from noise."""

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

from rich.progress import MofNCompleteColumn

from exfuse.analysis.power import Pilot, read_pilot, read_rates
from exfuse.config import search_path
from exfuse.errors import ConfigError
from exfuse.files import outputs
from exfuse.limits import PositiveFloat
from exfuse.sweeps.declared import compose_study
from exfuse.terminal import Console, Progress


def estimate(
    tflops: PositiveFloat | None,
    terabytes: PositiveFloat | None,
    element: Literal[2, 4] | None,
    detect: PositiveFloat | None,
    pilot: str | None,
    output: str | None,
    overrides: list[str],
) -> None:
    """Count, show and, if asked, write.

    Args:
        tflops, terabytes, element: what a device sustains, see `exfuse.sweeps.budget.Device`; None for what a GPU is chosen
            to, or a thread of a CPU in the format of the runs.
        detect: points of mIoU to tell from the noise of a pilot; None to count alone.
        pilot: a study or a folder of runs; None for what is typed without a key, or the study that is named. What is
            counted stands beside what its runs took.
        output: folder to write to; None for none.
        overrides: as ``exfuse train`` takes them.

    Raises:
        ConfigError: if ``detect`` has no pilot.
        UserError: if a file would take the place of what was not written here.
    """
    folders = [override for override in overrides if "=" not in override and not override.startswith("~")]  # without a key
    typed = [override for override in overrides if override not in folders]
    if surplus := folders[(1 if detect is not None and pilot is None else 0) :]:
        raise ConfigError(f"{surplus[0]!r}: expected key=value, or with detect=POINTS one folder, the pilot's.")
    found = next(iter(folders), pilot)
    if detect is not None and found is None:
        named = any(override.lstrip("+").startswith("study=") for override in typed)
        found = f"outputs/studies/{compose_study(typed)[0].name}" if named else None
    if detect is not None and found is None:
        raise ConfigError("detect= needs a pilot: pilot=FOLDER, a finished study or a folder of runs.")
    console = Console()
    if detect is not None and found and not typed:
        _detect(console, read_pilot(Path(found)), detect, {}, "")
        return
    with console.status("Loading PyTorch"):
        from exfuse.sweeps.budget import plan_budget  # torch, which a pilot alone does without
        from exfuse.sweeps.budget_report import assumptions, budget_files, budget_table, write_budget

    with outputs(budget_files(Path(output)), published=True) if output else nullcontext():
        typed_of_device = {"tflops": tflops, "terabytes": terabytes, "element": element}
        sustained = {name: value for name, value in typed_of_device.items() if value is not None}
        read = read_pilot(Path(found)) if found and detect is not None else None
        rates = read_rates(Path(found)) if found else {}
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console, transient=True) as bar:
            line = bar.add_task("Counting operations and memory, run by run", total=None)
            budgets = plan_budget(typed, lambda done, total: bar.update(line, completed=done, total=total), rates, **sustained)
        if detect is not None and read:
            hours = dict[str, float]()  # of the dearest, where a row stands in several number formats
            for row, device in ((row, one.device) for one in budgets for row in one.rows.values()):
                hours[row.name] = max(hours.get(row.name, 0.0), row.hours(device) / row.runs)
            _detect(console, read, detect, hours, " and ".join(sorted({one.device.kind for one in budgets})))
        for budget in budgets:
            console.print(budget_table(budget))
        for told in dict.fromkeys(map(assumptions, budgets)):
            console.print(told, highlight=False)
        if pilot and not any(training.rate for one in budgets for training in one.trainings()):
            console.print(
                f"Note: no run of {pilot} is of a row that is counted here, with its encoder, crop, number format and kind of "
                "device: nothing stands beside the hours.",
                highlight=False,
            )
        if output:
            device, *others = {one.device for one in budgets}
            stated = sustained if others else {name: getattr(device, name) for name in typed_of_device}
            own = [f"{name}={value:g}" for name, value in stated.items()]
            own += [f"pilot={found}"] if found else []
            for path in write_budget(
                Path(output), budgets, f"exfuse budget {shlex.join([*typed, *own, *search_path.folders_as_typed()])}"
            ):
                console.print(f"{path}", soft_wrap=True)


def _detect(console: Console, pilot: Pilot, points: float, counted: dict[str, float], kind: str) -> None:
    from exfuse.sweeps.detecting import detection_table

    with console.status("Resampling the pilot's images"):
        table = detection_table(pilot, points, counted, kind)
    console.print(table)
