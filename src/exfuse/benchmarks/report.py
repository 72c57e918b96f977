"""What the benchmarks say: one table in the terminal, and files to publish."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from exfuse.benchmarks.measurement import Measurement
from exfuse.files import write_atomically, write_json

_COLUMNS = ("item", "ours", "reference", "ratio", "target", "met", "details")


def terminal_table(measurements: Sequence[Measurement]) -> Table:
    """One line a measurement, a missed target in red."""
    table = Table(title="Benchmarks", show_lines=True)
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
        machine: see `exfuse.benchmarks.machine.describe_machine`.
        failed: modules that ended without measurements.
    """
    content = {"machine": machine, "failed": list(failed), "measurements": [asdict(each) for each in measurements]}
    write_json(folder / "benchmarks.json", content)
    write_atomically(folder / "benchmarks.csv", lambda path: _write_csv(path, measurements))
    write_atomically(folder / "benchmarks.md", lambda path: path.write_text(_markdown(measurements, machine, failed)))


def missed(measurement: Measurement) -> bool:
    """Whether there is a target and it was not met."""
    return bool(measurement.target) and not measurement.met


def _cells(measurement: Measurement) -> list[str]:
    reference = "" if measurement.reference is None else f"{_number(measurement.reference)} {measurement.unit}"
    return [
        measurement.item,
        f"{_number(measurement.ours)} {measurement.unit}",
        reference,
        _number(measurement.ratio),
        measurement.target,
        "MISSED" if missed(measurement) else "yes" if measurement.target else "",
        measurement.details,
    ]


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _markdown(measurements: Sequence[Measurement], machine: dict[str, Any], failed: Sequence[str]) -> str:
    def escaped(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    changed = ", with uncommitted changes" if machine["uncommitted_changes"] else ""
    gpu = [f"- GPU: {machine['gpu']}, CUDA {machine['cuda']}"] if machine["gpu"] else []
    lines = [
        "# Benchmarks",
        "",
        f"- machine: {machine['machine']}; {machine['threads']} threads; {machine['system']}",
        *gpu,
        f"- date: {machine['date']}; commit {machine['commit']}{changed}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in machine['versions'].items())}",
        "",
        "Medians after warm-up, each ratio taken in one process. A line without a target is there to be compared with.",
        "",
        escaped(_COLUMNS),
        escaped(["---"] * len(_COLUMNS)),
        *(escaped(_cells(measurement)) for measurement in measurements),
    ]
    lines += ["", *(f"**{module} ended without measurements.**" for module in failed)] if failed else []
    return "\n".join(lines) + "\n"


def _write_csv(path: Path, measurements: Sequence[Measurement]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*Measurement.__dataclass_fields__])
        writer.writeheader()
        writer.writerows(asdict(measurement) for measurement in measurements)
