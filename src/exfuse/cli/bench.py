"""Measure what training, inference and the training loop cost, each against a reference.

Every module of src/benchmarks runs in a process of its own. A missed target is a result, marked in the table.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from exfuse.benchmarks.machine import describe_machine
from exfuse.benchmarks.measurement import Measurement
from exfuse.benchmarks.report import missed, terminal_table, write_report
from exfuse.benchmarks.running import BenchmarkError, run_module
from exfuse.cli import running as cli

_PACKAGE = "exfuse.benchmarks"
_ORDER = ("models", "inference", "loop", "validation", "memory")
MODULES = tuple(name for name in _ORDER if importlib.util.find_spec(f"{_PACKAGE}.{name}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen benchmarks; return the exit status.

    Returns:
        0; 1 if a benchmark ended without measurements or, with ``--strict``, if a target was missed.
    """
    options = _parser().parse_args(arguments)
    console = Console()
    if options.device == "cuda" and not torch.cuda.is_available():
        console.print("No CUDA GPU here: nothing measured.")
        return 0
    measurements: list[Measurement] = []
    failed: list[str] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for number, module in enumerate(options.only, start=1):
            prefix = f"{number}/{len(options.only)} {module}"
            task = progress.add_task(prefix)

            def show(step: str, task: object = task, prefix: str = prefix) -> None:
                progress.update(task, description=f"{prefix}: {step}")  # type: ignore[arg-type]

            try:
                measurements += run_module(f"{_PACKAGE}.{module}", options.device, options.threads, show)
            except BenchmarkError as error:
                cli.fail_softly(str(error))
                failed.append(module)
            progress.remove_task(task)
    machine = describe_machine(options.device, options.threads)
    write_report(options.output, measurements, machine, failed)
    console.print(terminal_table(measurements))
    console.print(
        f"{machine['gpu'] or machine['machine']}, {options.threads} threads. Written to {options.output}", soft_wrap=True
    )
    return int(bool(failed) or (options.strict and any(map(missed, measurements))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m src.bench", description=__doc__)
    parser.add_argument(
        "--only",
        type=_names,
        default=MODULES,
        metavar="NAMES",
        help=f"modules, comma-separated; by default {','.join(MODULES)}",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda is timed with CUDA events")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch on the CPU (%(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/benchmarks"), help="folder of benchmarks.{md,csv,json} (%(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if not names or (unknown := [name for name in names if name not in MODULES]):
        raise argparse.ArgumentTypeError(f"no benchmark {unknown[0] if names else text!r}: expected {', '.join(MODULES)}")
    return tuple(name for name in MODULES if name in names)


if __name__ == "__main__":
    sys.exit(main())
