"""The parent of a sweep: at its end it says what ran, was skipped or failed and why, and tabulates the study."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from src.cli import fail_softly
from src.errors import UserError
from src.runs.folder import RunFolder
from src.sweeps.collect import collect_study
from src.sweeps.outcome import BUSY, ELSEWHERE, GOOD, INTERRUPTED, STARTED, Outcome, read_outcomes

_UNNAMED: dict[str, Any] = {"name": "multirun", "title": "Multirun", "question": "", "paper": None, "factors": None, "rows": {}}


class _Sweep(NamedTuple):
    folder: Path
    study: dict[str, Any]
    output: Path
    command: str
    mixed: bool
    waits: bool
    tabulates: bool


_running: list[_Sweep] = []  # at most one: Hydra hands its callbacks nothing that the caller could get back


class SweepWatch(Callback):
    """Hydra's callback by which the parent learns where its sweep lies and which study it is.

    Args:
        tabulates: whether the runs are segmentations, which make a table.
    """

    def __init__(self, tabulates: bool) -> None:
        self.tabulates = tabulates

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        hydra = config.hydra
        study = OmegaConf.to_container(config.study, resolve=True) if "study" in config else None
        assert study is None or isinstance(study, dict)
        named = {**_UNNAMED, **{str(name): value for name, value in (study or {}).items()}}
        output = Path(config.sweep.output or (Path("outputs/studies") / named["name"]))
        _running[:] = [
            _Sweep(
                folder=Path(hydra.sweep.dir),
                study=named,
                output=output,
                command=shlex.join(["python", "-m", f"src.{hydra.job.name}", *hydra.overrides.task]),
                mixed=config.sweep.mixed,
                waits=config.sweep.missing != "skip",
                tabulates=self.tabulates,
            )
        ]


def finish_sweep(interrupted: bool) -> bool:
    """Say how the sweep of this process ended and tabulate it; True if there was none or every run is done.

    Args:
        interrupted: Ctrl-C ended it early: say so, and tabulate nothing.
    """
    if not _running:
        return True
    sweep, console = _running.pop(), Console()
    outcomes = read_outcomes(sweep.folder)
    if not outcomes:
        return True  # nothing was started, and the error that says why is on its way
    for outcome in outcomes:
        if outcome.status == BUSY and sweep.waits and not interrupted:
            _wait(outcome, console)
        elif outcome.status == STARTED:
            outcome.status, outcome.reason = INTERRUPTED, "its supervisor was ended; the same command goes on"
    console.print(_summary(outcomes))
    if interrupted:
        console.print("Interrupted: the remaining jobs were not started. The same command goes on.")
        return False
    good = all(outcome.status in GOOD for outcome in outcomes)
    if sweep.tabulates:
        good &= _tabulate(sweep, outcomes, console)
    return good


def _wait(outcome: Outcome, console: Console) -> None:
    """Wait for the other sweep that trains this run, then see what became of it."""
    folder = RunFolder(Path(outcome.store), outcome.key)
    with (
        console.status(f"{outcome.row}, seed {outcome.seed}: waiting for the sweep that trains it"),
        folder.locked(lambda: None),
    ):
        finished = folder.finished()
    outcome.status, outcome.reason = (ELSEWHERE, "") if finished else (INTERRUPTED, "the other sweep did not finish it")


def _tabulate(sweep: _Sweep, outcomes: list[Outcome], console: Console) -> bool:
    from src.analysis.rendering import render_study  # matplotlib: slow to load

    try:
        collect_study(outcomes, sweep.study, sweep.command, sweep.mixed, sweep.output)
        render_study(sweep.output, console)
    except UserError as error:
        fail_softly(str(error))
        return False
    return True


def _summary(outcomes: list[Outcome]) -> Table:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    table = Table(title="Sweep: " + ", ".join(f"{number} {status}" for status, number in counts.items()), title_justify="left")
    for column in ("run", "seed", "status", "key", "minutes", "why"):
        table.add_column(column, justify="right" if column in ("seed", "minutes") else "left", overflow="fold")
    for outcome in outcomes:
        colour = "green" if outcome.status in GOOD else "red"
        why = outcome.reason.replace("[", r"\[") + (f"\n{outcome.log}" if outcome.reason and outcome.log else "")
        minutes = f"{outcome.seconds / 60:.1f}"
        table.add_row(outcome.row, str(outcome.seed), f"[{colour}]{outcome.status}[/]", outcome.key, minutes, why)
    return table
