"""Intervals of single contrasts, for tests of the statistics; a study resamples once for all of its own."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from exfuse.analysis.resampling import Additive, Interval, Resampled
from exfuse.metrics.iou import Areas
from exfuse.store.grouping import Grouping

Counts = NDArray[np.int64]  # of one run: (images, C, C), row = true class, column = predicted class, void left out


def additive(cells: Mapping[str, Mapping[int, Counts]]) -> dict[str, dict[int, Additive]]:
    """What runs contribute to the score, from their confusion counts by variant and seed."""
    return {cell: {seed: Areas.of_counts(counts) for seed, counts in by_seed.items()} for cell, by_seed in cells.items()}


def contrast(
    cells: Mapping[str, Mapping[int, Counts]],
    weights: Mapping[str, float],
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    grouping: Grouping | None = None,
) -> Interval:
    """`Resampled.contrast` of one contrast: where there are several, resample once."""
    taking_part = {cell: cells[cell] for cell in cells if cell in weights}
    return Resampled(additive(taking_part), resamples, seed, grouping).contrast(weights, level)


def difference(
    row: Mapping[int, Counts],
    base: Mapping[int, Counts],
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    grouping: Grouping | None = None,
) -> Interval:
    """Interval of mIoU(row) - mIoU(base), each given by seed: see `Resampled.contrast`."""
    return contrast({"row": row, "base": base}, {"row": 1, "base": -1}, resamples, level, seed, grouping)
