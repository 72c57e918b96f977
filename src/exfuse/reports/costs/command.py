"""What `exfuse report costs` does: measure all rows of a study beside one another, write, tabulate."""

import math
from pathlib import Path

import msgspec
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from exfuse.analysis.rendering import render_study
from exfuse.analysis.wording import count
from exfuse.errors import UserError
from exfuse.limits import Positive
from exfuse.process import choose_device, keep_freed_memory
from exfuse.reports.costs.machine import describe_conditions
from exfuse.reports.costs.memory import peak_mib
from exfuse.reports.costs.rounds import quartiles, take_rounds
from exfuse.reports.costs.subject import Subject, Turn, find_variants
from exfuse.store.description import Paths
from exfuse.store.measured_costs import MeasuredCosts, Quartiles, RowCosts, write_costs
from exfuse.store.study import load_study


class StudyFolder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The study that a report is about."""

    folder: str


class _Threads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threads: Positive | None


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What conf/report_costs.yaml asks for."""

    study: StudyFolder
    size: Positive | None
    batch_size: Positive | None
    rounds: Positive
    repeats: Positive
    device: str
    runtime: _Threads
    paths: Paths | None = None


def measure_costs(asked: Costs) -> None:
    """Write ``costs.json`` into the study's folder and render its tables anew.

    Raises:
        UserError: if the study cannot be read or has no finished run, or a row cannot be built or does not fit on the device.
    """
    folder = Path(asked.study.folder)
    device = choose_device(asked.device)
    if asked.runtime.threads:
        torch.set_num_threads(asked.runtime.threads)
    conditions = describe_conditions(device, asked.rounds, asked.repeats)
    study = load_study(folder, measured=False)  # a broken costs.json is what this command replaces
    variants, left_out = find_variants(study)
    if not variants:
        raise UserError(f"{folder} has no row that can be measured: {'; '.join(left_out)}.")
    console = Console()
    for reason in left_out:
        console.print(f"[yellow]Not measured:[/] {reason}", soft_wrap=True, highlight=False)
    if conditions.busy:
        console.print(
            f"[yellow]This machine is busy:[/] load average {conditions.load:.1f}, {conditions.cores} cores, of which this "
            f"takes {conditions.threads}. Do not trust the times; the table will say so.",
            soft_wrap=True,
            highlight=False,
        )
    keep_freed_memory()  # as in training
    with Progress(console=console, transient=True) as progress:
        weighed = len(variants) if device.type == "cpu" else 0
        task = progress.add_task("Weighing" if weighed else "Measuring", total=weighed + len(variants) * (1 + asked.rounds))
        subjects = [Subject(variant, asked.size, asked.batch_size) for variant in variants]
        peaks: list[float] = []
        for subject in subjects[:weighed]:
            peaks.append(peak_mib(subject.variant, subject.images, conditions.threads))
            progress.advance(task)
        progress.update(task, description="Measuring")
        turns = take_rounds(subjects, asked.rounds, asked.repeats, device, lambda: progress.advance(task))
    if not weighed:
        peaks = [max(turn.peak_memory_mib for turn in taken) for taken in turns]
    rows = [_summarise(*one) for one in zip(subjects, turns, peaks, strict=True)]
    costs = MeasuredCosts(conditions, rows)
    path = write_costs(folder, costs)
    render_study(folder, Console(quiet=True), redraw=False)  # no figure shows what was measured
    console.print(_table(costs, study.title))
    console.print(f"Measured costs: {path}; the study's tables use them.", soft_wrap=True, markup=False, highlight=False)


def _summarise(subject: Subject, turns: list[Turn], peak: float) -> RowCosts:
    crop = subject.run.recipe.augmentation.crop
    return RowCosts(
        rows=subject.variant.rows,
        identity=subject.variant.identity,
        input=[1, 3, subject.size, subject.size],
        batch=[subject.images, 3, crop, crop],
        precision=subject.run.trainer.precision,
        latency_ms=quartiles([turn.latency_ms for turn in turns]),
        train_images_per_second=quartiles([turn.train_images_per_second for turn in turns]),
        peak_memory_mib=peak,
    )


def _table(costs: MeasuredCosts, title: str) -> Table:
    conditions = costs.conditions
    table = Table(title=f"{title}: measured costs")
    table.add_column("variant")
    for header in ("latency ms", "training images/s", "peak memory MiB"):
        table.add_column(header, justify="right")
    for row in costs.rows:
        times = (_range(row.latency_ms), _range(row.train_images_per_second))
        table.add_row("\n".join(row.rows), *times, f"{row.peak_memory_mib:,.0f}")
    table.caption = (
        f"{conditions.name}, {count(conditions.threads, 'thread')}, torch {conditions.torch}. Medians of "
        f"{count(conditions.rounds, 'round')}, in brackets quartiles. Memory: peak of the {conditions.memory_of}."
    )
    return table


def _range(found: Quartiles) -> str:
    digits = min(3, max(0, 2 - math.floor(math.log10(found.high))))  # three significant ones
    median, low, high = (f"{value:.{digits}f}" for value in (found.median, found.low, found.high))
    return f"{median} \\[{low}, {high}]"
