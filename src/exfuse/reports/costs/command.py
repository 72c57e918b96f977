"""What `exfuse report costs` does: measure all rows of a study beside one another, write, tabulate."""

import math
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from exfuse.analysis.rendering import render_study
from exfuse.analysis.wording import count
from exfuse.errors import ConfigError, UserError
from exfuse.reports.costs.machine import describe_conditions
from exfuse.reports.costs.memory import peak_mib
from exfuse.reports.costs.rounds import quartiles, take_rounds
from exfuse.reports.costs.subject import Subject, Turn, find_variants
from exfuse.runs.allocator import keep_freed_memory
from exfuse.runs.device import choose_device
from exfuse.store.measured_costs import MeasuredCosts, Quartiles, RowCosts, write_costs
from exfuse.store.study import load_study


def measure_costs(config: DictConfig) -> None:
    """Write ``costs.json`` into the study's folder and render its tables anew.

    Raises:
        ConfigError: if a value of the config cannot be used.
        UserError: if the study cannot be read or has no finished run, or a row cannot be built or does not fit on the device.
    """
    folder = _check(config)
    device = choose_device(config.device)
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    conditions = describe_conditions(device, config.rounds, config.repeats)
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
        task = progress.add_task("Weighing" if weighed else "Measuring", total=weighed + len(variants) * (1 + config.rounds))
        subjects = [Subject(variant, config.size, config.batch_size) for variant in variants]
        peaks: list[float] = []
        for subject in subjects[:weighed]:
            peaks.append(peak_mib(subject.variant, subject.images, conditions.threads))
            progress.advance(task)
        progress.update(task, description="Measuring")
        turns = take_rounds(subjects, config.rounds, config.repeats, device, lambda: progress.advance(task))
    if not weighed:
        peaks = [max(turn.peak_memory_mib for turn in taken) for taken in turns]
    rows = [_summarise(*one) for one in zip(subjects, turns, peaks, strict=True)]
    costs = MeasuredCosts(conditions, rows)
    path = write_costs(folder, costs)
    render_study(folder, Console(quiet=True), redraw=False)  # no figure shows what was measured
    console.print(_table(costs, study.title))
    console.print(f"Measured costs: {path}; the study's tables use them.", soft_wrap=True, markup=False, highlight=False)


def _check(config: DictConfig) -> Path:
    if OmegaConf.is_missing(config.study, "folder"):
        raise ConfigError("study is not set: add study=FOLDER, such as study=outputs/studies/NAME.")
    for name, least in (("rounds", 1), ("repeats", 1), ("size", 1), ("batch_size", 1)):
        value = config[name]
        if not (isinstance(value, int) and value >= least) and not (value is None and name in ("size", "batch_size")):
            raise ConfigError(f"{name}={value}: expected a number of at least {least}.")
    threads = config.runtime.threads
    if threads is not None and not (isinstance(threads, int) and threads >= 1):
        raise ConfigError(f"runtime.threads={threads}: expected a number of at least 1, or null.")
    return Path(config.study.folder)


def _summarise(subject: Subject, turns: list[Turn], peak: float) -> RowCosts:
    crop = int(subject.config.recipe.augmentation.crop)
    return RowCosts(
        rows=subject.variant.rows,
        identity=subject.variant.identity,
        input=[1, 3, subject.size, subject.size],
        batch=[subject.images, 3, crop, crop],
        precision=str(subject.config.trainer.precision),
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
