"""Scores as Rich tables for the terminal."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exfuse.metrics.boundary_areas import EDGE_RADIUS, BoundaryAreas
from exfuse.metrics.iou import iou_per_class, mean_iou, pixel_accuracy
from exfuse.store.costs import COSTS
from exfuse.store.record import Record
from exfuse.terminal import RichTable, table_columns


def per_class_table(counts: NDArray[np.int64], classes: list[str], title: str, areas: BoundaryAreas | None = None) -> RichTable:
    """IoU per class, classes absent from the truth named as such, with the mean below.

    Args:
        counts: confusion counts (C, C).
        classes: names of the C ids.
        title: of the table.
        areas: if known, IoU inside objects, near borders and along contours are columns too.
    """
    table = RichTable(title=title, show_footer=True)
    scores = iou_per_class(counts)
    present = int(np.isfinite(scores).sum())
    table.add_column("class", footer=f"mean of {present} classes")
    table.add_column("IoU %", justify="right", footer=f"{100 * float(mean_iou(counts)):.1f}")
    table.add_column("share of pixels %", justify="right", footer=f"accuracy {100 * float(pixel_accuracy(counts)):.1f}")
    parts = {name: part.total() for name, part in areas.parts(EDGE_RADIUS).items()} if areas else {}
    for header, part in parts.items():
        footer = f"{100 * float(part.mean_iou()):.1f}" if part.true.any() else ""
        table.add_column(header, justify="right", footer=footer)
    shares = counts.sum(1) / counts.sum()
    for place, (name, score, share) in enumerate(zip(classes, scores, shares, strict=True)):
        rest = [_percent(part.iou()[place]) for part in parts.values()]
        table.add_row(name, _percent(score), f"{100 * share:.1f}", *rest)
    notes = []
    if present < len(classes):
        devkit = 100 * float(mean_iou(counts, devkit=True))
        notes.append(f"{len(classes) - present} classes are absent from these images and left out of the mean.")
        notes.append(f"Counted as VOC's devkit does, 0 for one that is predicted all the same: {devkit:.1f} %.")
    if parts:
        notes.append(f"Edge: IoU within {EDGE_RADIUS} px of a border; interior: of the rest; boundary: boundary IoU.")
    table.caption = "\n".join(notes) or None
    return table


def _percent(score: float) -> str:
    return f"{100 * score:.1f}" if np.isfinite(score) else "absent"


def comparison_table(records: Sequence[Record], title: str) -> RichTable:
    """Runs as columns: IoU per class, their mean, parameters and training time.

    Args:
        records: of finished runs that were scored on the same images.
        title: of the table.
    """
    table = RichTable(*table_columns(["class", *columns_of(records)], ["class"]), title=title)
    for name in records[0].scores.iou:
        values = [record.scores.iou[name] for record in records]
        table.add_row(name, *("absent" if value is None else f"{100 * value:.1f}" for value in values))
    table.add_section()
    table.add_row("mIoU", *(f"{100 * record.scores.miou:.1f}" for record in records), style="bold")
    table.add_row("backbone", *(record.weights_name for record in records))
    for column in COSTS:
        values = [record.cost(column.key) for record in records]
        if any(value is not None for value in values):
            table.add_row(column.title, *(_cost(value, column.scale) for value in values))
    table.add_row("minutes trained", *(f"{record.seconds / 60:.1f}" for record in records))
    return table


def _cost(value: float | None, scale: float) -> str:
    if value is None:
        return "-"
    digits = 2 - math.floor(math.log10(scale * value)) if value > 0 else 0  # three that count
    return f"{scale * value:,.{max(0, digits)}f}"


def mistakes_table(records: Sequence[Record], most: int = 8) -> RichTable:
    """The most frequent mistakes, runs as columns: % of a true class' pixels that are taken for another class.

    Args:
        records: of finished runs that were scored on the same images.
        most: how many mistakes, by the pixels they cost over all runs.
    """
    headers, words = ["truth", "taken for", *columns_of(records)], ("truth", "taken for")
    table = RichTable(*table_columns(headers, words), title=f"The {most} mistakes that cost most pixels, % of the true class")
    counts = np.array([record.scores.confusion for record in records])  # (runs, C, C)
    wrong = counts.sum(0) * (1 - np.eye(counts.shape[-1], dtype=np.int64))
    classes = list(records[0].scores.iou)
    for place in np.argsort(-wrong, axis=None, kind="stable")[:most]:
        true, predicted = divmod(int(place), len(classes))
        if wrong[true, predicted]:
            shares = 100 * counts[:, true, predicted] / counts[:, true].sum(-1)
            table.add_row(classes[true], classes[predicted], *(f"{share:.1f}" for share in shares))
    return table


def columns_of(records: Sequence[Record]) -> list[str]:
    """What a column or picture of each run is called: name and seed, with the key where several have these in common."""
    called = [f"{record.title.replace('+', chr(10))}\nseed {record.seed}" for record in records]
    keyed = zip(called, records, strict=True)
    return [f"{name}\n{record.key[:8]}" if called.count(name) > 1 else name for name, record in keyed]


def accuracy_table(record: Record) -> RichTable:
    """Classification accuracy of a finished pretraining: of the head and of each of SS's branches."""
    title = f"{record.title}, seed {record.seed}: {record.data}"
    table = RichTable(*table_columns(("classifier", "accuracy %"), ["classifier"]), title=title)
    for name, value in record.backbone.accuracy.items():
        table.add_row("head" if name == "main" else f"branch of {name}", f"{100 * value:.1f}")
    images = record.images
    table.caption = f"{images['train']} images to train on, {images['val']} to score on, {record.seconds / 60:.1f} minutes"
    return table
