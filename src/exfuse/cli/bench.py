"""``exfuse bench``: every module of `exfuse.benchmarks` in a process of its own."""

import os
import sys
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from exfuse.errors import ConfigError, complain

_PACKAGE = "exfuse.benchmarks"
MODULES = ("models", "inference", "loop", "validation", "memory")


def main(config: DictConfig) -> None:
    """Run the chosen benchmarks.

    Raises:
        ConfigError: if an option has no usable value.
        SystemExit: with status 1 if a benchmark ended without measurements or, with ``strict``, if a target was missed.
    """
    if unknown := [name for name in config.only if name not in MODULES]:
        raise ConfigError(f"only={unknown[0]}: no such benchmark, expected some of {', '.join(MODULES)}.")
    if config.device not in ("cpu", "cuda"):
        raise ConfigError(f"device={config.device}: expected cpu or cuda.")
    import torch

    from exfuse.benchmarks.report import Measurement, describe_machine, missed, terminal_table, write_report
    from exfuse.benchmarks.running import BenchmarkError, run_module

    console = Console()
    if config.device == "cuda" and not torch.cuda.is_available():
        console.print("No CUDA GPU here: nothing measured.")
        return
    threads = config.threads or min(2, os.cpu_count() or 1)
    chosen = [name for name in MODULES if name in config.only or not config.only]
    measurements: list[Measurement] = []
    failed: list[str] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for number, module in enumerate(chosen, start=1):
            prefix = f"{number}/{len(chosen)} {module}"
            task = progress.add_task(prefix)

            def show(step: str, task: object = task, prefix: str = prefix) -> None:
                progress.update(task, description=f"{prefix}: {step}")  # type: ignore[arg-type]

            try:
                measurements += run_module(f"{_PACKAGE}.{module}", config.device, threads, show)
            except BenchmarkError as error:
                complain(str(error))
                failed.append(module)
            progress.remove_task(task)
    machine, output = describe_machine(config.device, threads), Path(config.output)
    write_report(output, measurements, machine, failed)
    console.print(terminal_table(measurements))
    console.print(f"{machine['gpu'] or machine['machine']}, {threads} threads. Written to {output}", soft_wrap=True)
    if failed or (config.strict and any(map(missed, measurements))):
        sys.exit(1)
