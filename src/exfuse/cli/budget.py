"""``exfuse budget``: GPU hours of a study, counted."""

import shlex
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from exfuse.errors import ConfigError


def main(config: DictConfig) -> None:
    """Count, show and, if asked, write.

    Raises:
        ConfigError: if an option has no usable value.
    """
    if min(config.tflops, config.terabytes) <= 0:
        raise ConfigError(f"tflops={config.tflops} terabytes={config.terabytes}: expected more than 0.")
    if config.element not in (2, 4):
        raise ConfigError(f"element={config.element}: expected 2 or 4.")
    from exfuse.sweeps.budget import plan_budget
    from exfuse.sweeps.budget_report import assumptions, budget_table, write_budget
    from exfuse.sweeps.roofline import Device

    console, device = Console(), Device(config.tflops, config.terabytes, config.element)
    overrides = [str(override) for override in config.overrides]
    folders = [
        override for override in overrides if "=" not in override and override[0] != "~"
    ]  # typed without a key: the pilot
    overrides = [override for override in overrides if override not in folders]
    pilot = config.pilot or next(iter(folders), None)
    if config.detect is not None and not overrides:
        if pilot is None:
            raise ConfigError("detect= needs a pilot: pilot=FOLDER, a finished study or a folder of runs.")
        _detect(console, Path(pilot), config.detect, {})
        return
    with Progress(console=console, transient=True) as bar:
        line = bar.add_task("Counting operations", total=None)
        budgets = plan_budget(overrides, lambda done, total: bar.update(line, completed=done, total=total))
    if config.detect is not None:
        named = [override.partition("=")[2] for override in overrides if override.lstrip("+").startswith("study=")]
        found = pilot or (f"outputs/studies/{named[0]}" if named else None)
        if found is None:
            raise ConfigError("detect= needs a pilot: pilot=FOLDER, a finished study or a folder of runs.")
        runs = [row for budget in budgets for row in budget.rows.values()]
        _detect(console, Path(found), config.detect, {row.name: row.hours(device) / row.runs for row in runs})
    for budget in budgets:
        console.print(budget_table(budget, device))
    console.print(assumptions(device), highlight=False)
    if config.output:
        for path in write_budget(Path(config.output), budgets, device, f"exfuse budget {shlex.join(overrides)}"):
            console.print(f"{path}", soft_wrap=True)


def _detect(console: Console, pilot: Path, points: float, gpu_hours: dict[str, float]) -> None:
    from exfuse.analysis.power import read_pilot
    from exfuse.sweeps.detecting import detection_table

    with console.status("Resampling the pilot's images"):
        table = detection_table(read_pilot(pilot), points, gpu_hours)
    console.print(table)
