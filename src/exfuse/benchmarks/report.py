"""What a line of the benchmarks says, on which machine, and their report."""

import operator
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import torch

from exfuse.analysis.formats.markdown import table_lines
from exfuse.errors import rounded
from exfuse.files import write_csv, write_json, write_text
from exfuse.runs.environment import describe_environment, version_of
from exfuse.store.checked import plain
from exfuse.store.record import uncommitted_text
from exfuse.terminal import RichTable


class Measurement(msgspec.Struct, frozen=True):
    """One comparison.

    Attributes:
        item: what is measured, in a few words.
        ours: median of the side under test.
        reference: median of what it is held against; None for an absolute bound.
        unit: of both, e.g. "ms", "GFLOPs", "images/s".
        ratio: the number that the target bounds.
        target: the bound as a reader wants it, e.g. "<= 1.60"; empty for a line that is only there to be compared with.
        met: whether the bound holds; nothing without a target.
        details: number formats, batch, sizes, memory.
        profile: of a target that is missed, where the time goes, as Markdown.
    """

    item: str
    ours: float
    reference: float | None
    unit: str
    ratio: float
    target: str
    met: bool
    details: str = ""
    profile: str = ""


_BOUNDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


def hold(
    item: str,
    ours: float,
    reference: float | None,
    unit: str,
    target: str = "",
    details: str = "",
    faster: bool = False,
    profile: Callable[[], str] | None = None,
) -> Measurement:
    """Hold one side against the other: a `Measurement` with its ratio, and whether that meets its target.

    Args:
        item, ours, reference, unit, target, details: see there.
        faster: the ratio says how many times as fast we are by two times; else it is ours by the reference.
        profile: asked for where the target is missed.
    """
    ratio = ours if reference is None else reference / ours if faster else ours / reference
    sign, _, bound = target.partition(" ")
    met = not target or _BOUNDS[sign](ratio, float(bound))
    told = profile() if profile is not None and not met else ""
    return Measurement(item, ours, reference, unit, ratio, target, met, details, told)


_PROFILED = 12  # lines of a profile


def profile_of(call: Callable[[], object]) -> str:
    """Operators of one call by their own time on the CPU or, where it uses one, the GPU: a table in Markdown."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=kinds, record_shapes=True) as profiler:
        call()
    taken = []
    for one in profiler.key_averages(group_by_input_shape=True):
        shapes = " ".join("x".join(map(str, shape)) for shape in one.input_shapes[:2] if shape)
        taken.append(((one.self_device_time_total or one.self_cpu_time_total) / 1e3, f"{one.key} {shapes}"))
    return table_of_shares(taken, "operator and shapes")


def table_of_shares(taken: Sequence[tuple[float, str]], of: str) -> str:
    """Milliseconds and what took them as a Markdown table of the longest, with their shares of all."""
    total = sum(time for time, _ in taken)
    longest = sorted(taken, reverse=True)[:_PROFILED]
    body = [(what, f"{time:.1f}", f"{time / total:.1%}") for time, what in longest]
    return "\n".join(table_lines((of, "ms", "share"), body, (":---", "---:", "---:")))


# Which machine, versions and commit a benchmark was taken with.

_ALSO = ("segmentation-models-pytorch", "onnxruntime")  # references and exports of some benchmarks


def describe_machine(device: str, threads: int) -> dict[str, Any]:
    """Plain data: ``machine`` and ``gpu`` for people, versions, threads, date and commit.

    Args:
        device: cpu or cuda.
        threads: of torch in each benchmark.
    """
    environment = describe_environment(torch.device("cpu"))
    versions = {"python": environment.python, **environment.packages, **{name: version_of(name) for name in _ALSO}}
    return {
        "machine": f"{os.cpu_count()} cores, {environment.device}",
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "system": environment.system,
        "threads": threads,
        "versions": {name: found for name, found in versions.items() if found},
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": environment.commit,
        "uncommitted_changes": environment.uncommitted_changes,
    }


# What the benchmarks say: one table in the terminal, and files to publish.

_DIGITS = 3
_COLUMNS = ("item", "ours", "reference", "ratio", "target", "met", "details")


def terminal_table(measurements: Sequence[Measurement]) -> RichTable:
    """One line a measurement, a missed target in red."""
    table = RichTable(title="Benchmarks", show_lines=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in ("ours", "reference", "ratio", "target") else "left")
    for measurement in measurements:
        table.add_row(*_cells(measurement), style="red" if missed(measurement) else None)
    return table


def write_report(folder: Path, measurements: Sequence[Measurement], machine: dict[str, Any], failed: Sequence[str]) -> None:
    """Write ``benchmarks.md``, ``.csv`` and ``.json`` into ``folder``, each whole or not at all.

    Args:
        folder: made if missing.
        measurements: in the order in which they are to be read.
        machine: see `exfuse.benchmarks.report.describe_machine`.
        failed: modules that ended without measurements.
    """
    content = {"machine": machine, "failed": list(failed), "measurements": plain(list(measurements))}
    text, table, data = report_files(folder)
    write_json(data, content)
    fields = Measurement.__struct_fields__[:-1]  # without profiles
    rows = [[getattr(one, name) for name in fields] for one in measurements]
    write_csv(table, [fields, *rows])
    write_text(text, _markdown(measurements, machine, failed))


def report_files(folder: Path) -> list[Path]:
    """What `write_report` writes."""
    return [folder / f"benchmarks.{suffix}" for suffix in ("md", "csv", "json")]


def missed(measurement: Measurement) -> bool:
    """Whether there is a target and it was not met."""
    return bool(measurement.target) and not measurement.met


def _cells(measurement: Measurement) -> list[str]:
    reference = "" if measurement.reference is None else f"{rounded(measurement.reference, _DIGITS)} {measurement.unit}"
    return [
        measurement.item,
        f"{rounded(measurement.ours, _DIGITS)} {measurement.unit}",
        reference,
        rounded(measurement.ratio, _DIGITS),
        measurement.target,
        "MISSED" if missed(measurement) else "met" if measurement.target else "",
        measurement.details,
    ]


def _markdown(measurements: Sequence[Measurement], machine: dict[str, Any], failed: Sequence[str]) -> str:
    gpu = [f"- GPU: {machine['gpu']}, CUDA {machine['cuda']}"] if machine["gpu"] else []
    lines = [
        "# Benchmarks",
        "",
        f"- machine: {machine['machine']}; {machine['threads']} threads; {machine['system']}",
        *gpu,
        f"- date: {machine['date']}; commit {machine['commit'] or 'unknown'}{uncommitted_text(machine['uncommitted_changes'])}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in machine['versions'].items())}",
        "",
        "Medians after warm-up, each ratio taken in one process. A line without a target is there to be compared with.",
        "",
        *table_lines(_COLUMNS, [[cell.replace("|", "\\|") for cell in _cells(one)] for one in measurements]),
    ]
    lines += ["", *(f"**{module} ended without measurements.**" for module in failed)] if failed else []
    bounded = [one for one in measurements if one.target]
    short = [one for one in bounded if missed(one)]
    lines += ["", f"{len(bounded) - len(short)} of {len(bounded)} targets are met."]
    for one in short:
        lines += [
            "",
            f"## Missed: {one.item}",
            "",
            f"{rounded(one.ratio, _DIGITS)}, where {one.target} is the target. {one.details}.",
        ]
        lines += ["", one.profile] if one.profile else []
    return "\n".join(lines) + "\n"
