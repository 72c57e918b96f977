"""What `exfuse report costs` does: measure all rows of a study beside one another, write, tabulate."""

import math
import os
from pathlib import Path

import torch

from exfuse.analysis.rendering import render_study
from exfuse.devices import choose_device
from exfuse.errors import UserError, plural
from exfuse.limits import Device, Positive
from exfuse.memory import keep_freed_memory
from exfuse.process import usable_cores
from exfuse.reports.costs.turns import Subject, find_variants, peak_mib, take_rounds
from exfuse.runs.costs import CPU_MEMORY, CUDA_MEMORY
from exfuse.runs.environment import describe_environment
from exfuse.store.costs import COSTS, MEASURED, Quartiles
from exfuse.store.measured_costs import Conditions, MeasuredCosts, write_costs
from exfuse.store.study_reading import load_study
from exfuse.tasks.prediction import check_view
from exfuse.terminal import Console, Progress, RichTable, table_columns


def measure_costs(
    study_folder: str,
    size: Positive | None,
    batch_size: Positive | None,
    rounds: Positive,
    repeats: Positive,
    device: Device,
    runtime_threads: Positive | None,
) -> None:
    """Write ``costs.json`` into the study's folder and render its tables anew.

    Args:
        study_folder: of the study.
        size: side in pixels of the image whose latency is measured; None for the recipe's crop.
        batch_size: images of a training step; None for the recipe's.
        rounds: that are kept; in each every row has a turn of ``repeats`` timings.
        repeats: timed evaluations and training steps of a turn.
        device: to measure on.
        runtime_threads: of torch on the CPU; None for as many as cores.

    Raises:
        UserError: if the study cannot be read or has no finished run, or a row cannot be built or does not fit on the device.
    """
    folder, where = Path(study_folder), choose_device(device)
    if runtime_threads:
        torch.set_num_threads(runtime_threads)
    conditions = _conditions(where, rounds, repeats)
    study = load_study(folder, measured=False)  # a broken costs.json is what this command replaces
    variants, left_out = find_variants(study)
    if not variants:
        raise UserError(f"{folder} has no row that can be measured: {'; '.join(left_out)}.")
    console = Console()
    for reason in left_out:
        console.print(f"Not measured: {reason}", soft_wrap=True, highlight=False)
    if conditions.busy:
        console.print(
            f"This machine is busy: load average {conditions.load:.1f}, {conditions.cores} cores, of which this "
            f"takes {conditions.threads}. Do not trust the times; the table will say so.",
            soft_wrap=True,
            highlight=False,
        )
    keep_freed_memory()  # as in training
    with Progress(console=console, transient=True) as progress:
        weighed = len(variants) if where.type == "cpu" else 0
        task = progress.add_task("Weighing" if weighed else "Measuring", total=weighed + len(variants) * (1 + rounds))
        if size is not None:
            check_view(size, size)
        subjects = [Subject(variant, size, batch_size) for variant in variants]
        peaks: list[float] = []
        for subject in subjects[:weighed]:
            peaks.append(peak_mib(subject.variant, subject.images, conditions.threads))
            progress.advance(task)
        progress.update(task, description="Measuring")
        turns = take_rounds(subjects, rounds, repeats, where, lambda: progress.advance(task))
    if not weighed:
        peaks = [max(turn.peak_memory_mib for turn in taken) for taken in turns]
    rows = [subject.summarise(taken, peak) for subject, taken, peak in zip(subjects, turns, peaks, strict=True)]
    costs = MeasuredCosts(conditions, rows)
    path = write_costs(folder, costs)
    render_study(folder, Console(quiet=True), redraw=False)  # no figure shows what was measured
    console.print(_table(costs, study.title))
    console.print(f"Measured costs: {path}; the study's tables use them.", soft_wrap=True, highlight=False)


def _conditions(device: torch.device, rounds: int, repeats: int) -> Conditions:
    """To be asked before anything is measured: the load is that of others."""
    environment = describe_environment(device)
    return Conditions(
        device=device.type,
        name=str(environment.device),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        torch=str(environment.packages["torch"]),
        cuda=environment.cuda,
        commit=environment.commit,
        uncommitted_changes=environment.uncommitted_changes,
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        rounds=rounds,
        repeats=repeats,
        memory_of=CUDA_MEMORY if device.type == "cuda" else CPU_MEMORY,
    )


def _table(costs: MeasuredCosts, title: str) -> RichTable:
    conditions = costs.conditions
    headers = ["variant", *(column.title for column in COSTS if column.measured), "layout"]
    table = RichTable(*table_columns(headers, ["variant", "layout"]), title=f"{title}: measured costs")
    for row in costs.rows:
        table.add_row("\n".join(row.rows), *(_range(getattr(row, key)) for key in MEASURED), row.layout)
    table.caption = (
        f"{conditions.name}, {plural(conditions.threads, 'thread')}, torch {conditions.torch}. Medians of "
        f"{plural(conditions.rounds, 'round')}, in brackets quartiles. Memory: peak of the {conditions.memory_of}."
    )
    return table


def _range(found: Quartiles | float) -> str:
    if not isinstance(found, Quartiles):
        return f"{found:,.0f}"
    digits = min(3, max(0, 2 - math.floor(math.log10(found.high))))  # three significant ones
    median, low, high = (f"{value:.{digits}f}" for value in (found.median, found.low, found.high))
    return f"{median} [{low}, {high}]"
