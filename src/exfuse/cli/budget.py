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
    with Progress(console=console, transient=True) as bar:
        line = bar.add_task("Counting operations", total=None)
        budgets = plan_budget(overrides, lambda done, total: bar.update(line, completed=done, total=total))
    for budget in budgets:
        console.print(budget_table(budget, device))
    console.print(assumptions(device), highlight=False)
    if config.output:
        for path in write_budget(Path(config.output), budgets, device, f"exfuse budget {shlex.join(overrides)}"):
            console.print(f"{path}", soft_wrap=True)
