"""``exfuse bench``: every module of `exfuse.benchmarks` in a process of its own."""

import sys
from pathlib import Path
from typing import Literal, get_args

import torch
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from exfuse.benchmarks.report import Measurement, describe_machine, missed, report_files, terminal_table, write_report
from exfuse.benchmarks.running import BenchmarkError, run_module
from exfuse.errors import complain
from exfuse.files import outputs
from exfuse.limits import Positive
from exfuse.process import usable_cores
from exfuse.terminal import Console, Progress

_PACKAGE = "exfuse.benchmarks"
Module = Literal["demo", "models", "inference", "start", "loop", "validation", "tables", "input", "memory"]
MODULES: tuple[str, ...] = get_args(Module)


def bench(
    only: list[Module],
    device: Literal["cpu", "cuda"],
    threads: Positive | None,
    output: str,
    strict: bool,
) -> None:
    """Run the chosen benchmarks.

    Args:
        only: of them; none for all.
        device: to measure.
        threads: of torch on the CPU; None for two, or one where there is one.
        output: folder of the results.
        strict: whether a missed target is a failure, and a device that is not there.

    Raises:
        UserError: if a result would take the place of what was not written here.
        SystemExit: with status 1 if a benchmark ended without measurements or, with ``strict``, if a target was missed.
    """
    console = Console()
    if device == "cuda" and not torch.cuda.is_available():
        console.print("No CUDA GPU here: nothing measured.")
        if strict:
            sys.exit(1)
        return
    threads = threads or min(2, usable_cores())
    chosen = [name for name in MODULES if name in only or not only]
    measurements: list[Measurement] = []
    failed: list[str] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    guard = outputs(report_files(Path(output)), published=True)
    with guard, Progress(*columns, console=console, transient=True) as progress:
        for number, module in enumerate(chosen, start=1):
            prefix = f"{number}/{len(chosen)} {module}"
            task = progress.add_task(prefix)

            def show(step: str, task: object = task, prefix: str = prefix) -> None:
                progress.update(task, description=f"{prefix}: {step}")  # type: ignore[arg-type]

            try:
                measurements += run_module(f"{_PACKAGE}.{module}", device, threads, show)
            except BenchmarkError as error:
                complain(str(error))
                failed.append(module)
            progress.remove_task(task)
        machine = describe_machine(device, threads)
        write_report(Path(output), measurements, machine, failed)
    console.print(terminal_table(measurements))
    console.print(f"{machine['gpu'] or machine['machine']}, {threads} threads. Written to {output}", soft_wrap=True)
    if failed or (strict and any(map(missed, measurements))):
        sys.exit(1)
