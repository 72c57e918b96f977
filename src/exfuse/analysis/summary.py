"""Runs of one variant over several seeds: mean, spread, and the single values as CSV."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from exfuse.files import write_csv
from exfuse.store.consistency import told_apart
from exfuse.store.record import Record
from exfuse.terminal import RichTable, table_columns

Values = dict[str, float]
Variants = dict[str, dict[int, Values]]


def group_runs(records: Sequence[Record], classes: Sequence[str] = ()) -> Variants:
    """Scores of finished runs as people read them, by variant and seed; of backbones the accuracy of the head and branches.

    Random weights are named in the variant, and so is whatever tells runs of one name apart but their seeds.

    Args:
        records: of runs or of backbones, scored on the same images.
        classes: if given, their mean IoU is a column of its own.
    """
    variants: Variants = {}
    apart = told_apart(records, most=None)
    for record in records:
        values = _scores(record, classes)
        if record.parameters or not record.imported:
            values["M parameters"] = record.parameters / 1e6
        note = " (random weights)" if not record.pretraining and record.weights_name == "random" else ""
        note += " (diverged)" if record.diverged else ""
        note += f" ({differs})" if (differs := apart.get(record.key)) else ""
        variants.setdefault(record.title + note, {})[record.seed] = values
    return variants


def _scores(record: Record, classes: Sequence[str]) -> Values:
    if record.pretraining:
        return {"head" if name == "main" else name: 100 * value for name, value in record.pretraining.accuracy.items()}
    if (scores := record.scored) is None:
        return {record.metric.header: record.metric.scale * record.score}
    present = sum(value is not None for value in scores.iou.values())
    values = {f"mIoU of {present} classes": 100 * scores.miou}
    if scores.pixel_accuracy is not None:
        values["pixel accuracy"] = 100 * scores.pixel_accuracy
    if classes:
        chosen = [value for name in classes if (value := scores.iou[name]) is not None]
        if chosen:  # else none of them occurs in val
            values[f"mIoU of {len(classes)} chosen"] = 100 * statistics.mean(chosen)
    return values


def summary_table(variants: Variants, title: str) -> RichTable:
    """Mean and, where there are several seeds, their standard deviation (n - 1)."""
    names = _columns(variants)
    table = RichTable(*table_columns(["variant", "seeds", *names], ["variant"]), title=title)
    for name, seeds in variants.items():
        cells = []
        for column in names:
            values = [by_name[column] for by_name in seeds.values() if column in by_name]
            cells.append(mean_and_spread(values, 2 if column == "M parameters" else 1))
        table.add_row(name, str(len(seeds)), *cells)
    return table


def mean_and_spread(values: Sequence[float], digits: int = 1) -> str:
    """``12.3 ± 0.4``; the mean alone where nothing spreads, a dash for no value."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(set(values)) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f}"


def write_values(path: Path, variants: Variants) -> None:
    """Write one line per variant and seed."""
    names = _columns(variants)
    lines: list[list[object]] = [["variant", "seed", *names]]
    for name, seeds in variants.items():
        for seed, values in seeds.items():
            lines.append([name, seed, *(f"{values[column]:.4f}" if column in values else "" for column in names)])
    write_csv(path, lines)


def _columns(variants: Variants) -> list[str]:
    """Every column that a variant has, in the order of the fullest; parameters last."""
    found = dict.fromkeys(column for seeds in variants.values() for values in seeds.values() for column in values)
    return sorted(found, key=lambda column: column == "M parameters")
