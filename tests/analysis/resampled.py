"""Intervals of single contrasts, for tests of the statistics; a study resamples once for all of its own."""

from collections.abc import Mapping

from exfuse.analysis.resampling import Counts, Interval, Resampled
from exfuse.store.grouping import Grouping


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
    return Resampled(taking_part, resamples, seed, grouping).contrast(weights, level)


def difference(
    row: Mapping[int, Counts],
    base: Mapping[int, Counts],
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    paired_seeds: bool = True,
    grouping: Grouping | None = None,
) -> Interval:
    """Interval of mIoU(row) - mIoU(base), each given by seed: see `Resampled.contrast`."""
    cells = Resampled({"row": row, "base": base}, resamples, seed, grouping)
    return cells.contrast({"row": 1, "base": -1}, level, paired_seeds)
