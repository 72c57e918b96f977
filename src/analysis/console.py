"""Scores as Rich tables for the terminal."""

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from src.metrics.iou import iou_per_class, mean_iou, pixel_accuracy


def per_class_table(counts: NDArray[np.int64], classes: list[str], title: str) -> Table:
    """IoU per class from confusion counts (C, C), classes absent from the truth named as such, with the mean below."""
    table = Table(title=title, show_footer=True)
    scores = iou_per_class(counts)
    present = int(np.isfinite(scores).sum())
    table.add_column("class", footer=f"mean of {present} classes")
    table.add_column("IoU %", justify="right", footer=f"{100 * float(mean_iou(counts)):.1f}")
    table.add_column("share of pixels %", justify="right", footer=f"accuracy {100 * float(pixel_accuracy(counts)):.1f}")
    shares = counts.sum(1) / counts.sum()
    for name, score, share in zip(classes, scores, shares, strict=True):
        table.add_row(name, f"{100 * score:.1f}" if np.isfinite(score) else "absent", f"{100 * share:.1f}")
    if present < len(classes):
        table.caption = f"{len(classes) - present} classes are absent from these images and left out of the mean."
    return table
