"""From each image's numbers to a summary over images: as rows, CSV and a Rich table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich import box

from exfuse.files import write_csv
from exfuse.reports.features.statistics import (
    BRANCH,
    CLASS_STATISTICS,
    MAP,
    Moments,
    Regions,
    branch_statistics,
    map_statistics,
)
from exfuse.reports.features.taps import Tapped
from exfuse.store.features import FeatureRun, SummaryRow
from exfuse.terminal import RichTable

Numbers = dict[str, float | None]  # before and after
_SEVERAL = 2  # values that a standard deviation needs


@dataclass
class Collected:
    """What one level of one run gave, image by image, and its classes' moments summed over images."""

    classes: int
    images: list[str] = field(default_factory=list)
    before: list[dict[str, float]] = field(default_factory=list)
    after: list[dict[str, float]] = field(default_factory=list)
    moments: dict[tuple[str, str], Moments] = field(default_factory=dict)  # by (before or after, region)

    def add(self, image: str, tapped: Tapped, regions: Regions) -> dict[str, Numbers]:
        """Count one image in; its own statistics by name, before and after, None where there is no number."""
        numbers = {}
        for when, values in (("before", tapped.before), ("after", tapped.after)):
            numbers[when], moments = map_statistics(values, regions, self.classes)
            for region, one in moments.items():
                known = self.moments.get((when, region))
                self.moments[when, region] = one if known is None else known.plus(one)
        numbers["after"] |= branch_statistics(tapped.branch, regions, self.classes)
        self.images.append(image)
        self.before.append(numbers["before"])
        self.after.append(numbers["after"])
        return {
            name: {"before": _known(numbers["before"].get(name, math.nan)), "after": _known(numbers["after"][name])}
            for name in (*MAP, *BRANCH)
        }

    def rows(self, run: FeatureRun, level: str) -> list[SummaryRow]:
        """The summary of every statistic."""
        return [self._row(run, level, name) for name in (*MAP, *BRANCH)]

    def values(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A statistic before and after in every image, not a number where an image gives none."""
        before = np.array([numbers.get(name, math.nan) for numbers in self.before], dtype=float)
        return before, np.array([numbers[name] for numbers in self.after], dtype=float)

    def _row(self, run: FeatureRun, level: str, name: str) -> SummaryRow:
        before, after = self.values(name)
        both = np.isfinite(before) & np.isfinite(after)
        if name in MAP:  # the same images before and after, or the means would not compare
            before, after = before[both], after[both]
        else:
            before, after = before[both], after[np.isfinite(after)]
        ratios = after[before > 0] / before[before > 0] if len(before) else before
        low, middle, high = np.percentile(ratios, (25, 50, 75)) if len(ratios) else (math.nan,) * 3
        pooled = {when: self._pooled(when, name) for when in ("before", "after")}
        return SummaryRow(
            run=run.key,
            row=run.row,
            seed=run.seed,
            level=level,
            statistic=name,
            images=len(after),
            before=_known(before.mean() if len(before) else math.nan),
            before_sd=_known(before.std(ddof=1) if len(before) >= _SEVERAL else math.nan),
            after=_known(after.mean() if len(after) else math.nan),
            after_sd=_known(after.std(ddof=1) if len(after) >= _SEVERAL else math.nan),
            ratio=_known(middle),
            ratio_low=_known(low),
            ratio_high=_known(high),
            rises=_known((after > before).mean() if len(before) else math.nan),
            pooled_before=pooled["before"],
            pooled_after=pooled["after"],
        )

    def _pooled(self, when: str, name: str) -> float | None:
        if name not in CLASS_STATISTICS:
            return None
        kind, _, region = name.rpartition("_")
        return _known(getattr(self.moments[when, region], kind)())


def write_per_image(path: Path, collected: Iterable[tuple[FeatureRun, str, Collected]]) -> None:
    """One line an image, statistic, level and run: for tests of one's own."""
    lines: list[list[object]] = [["image", "run", "row", "seed", "level", "statistic", "before", "after"]]
    for run, level, one in collected:
        for name in (*MAP, *BRANCH):
            for image, before, after in zip(one.images, *one.values(name), strict=True):
                pair = ["" if math.isnan(value) else value for value in (before, after)]
                lines.append([image, run.key, run.row, run.seed, level, name, *pair])
    write_csv(path, lines)


def summary_tables(rows: Sequence[SummaryRow], runs: Sequence[FeatureRun], level: str, title: str) -> list[RichTable]:
    """One level's statistics of the map and of the branch, each with a line for every run.

    Several runs are called A, B, ..., see `name_runs`. Both fit into 80 columns.
    """
    names = name_runs(runs)
    found = []
    for statistics, headers in ((MAP, ("before", "after", "ratio", "rises", "n")), (BRANCH, ("value", "n"))):
        table = RichTable(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
        table.add_column("statistic", no_wrap=True)
        for header in ("", *headers) if len(runs) > 1 else headers:
            table.add_column(header, justify="right", no_wrap=True)
        for name in statistics:
            shown = [row for row in rows if (row.level, row.statistic) == (level, name)]
            for place, row in enumerate(shown):
                run = [names[row.run]] if len(runs) > 1 else []
                table.add_row(name if place == 0 else "", *run, *(_cells(row) if statistics is MAP else _branch_cells(row)))
                if row.pooled_after is not None:
                    table.add_row("  pooled", *run, _text(row.pooled_before), _text(row.pooled_after), style="dim")
        found.append(table)
        title = f"{level}: the branch of SEB"
    return found


def name_runs(runs: Sequence[FeatureRun]) -> dict[str, str]:
    """A short name for each run's key, for tables: A to Z, then numbers."""
    return {run.key: chr(ord("A") + place) if place < 26 else str(place) for place, run in enumerate(runs)}


LEGEND = (
    "before, after: mean over images ± standard deviation. ratio: after / before, median over images (quartiles). rises: share "
    "of images in which after is larger. n: images that give the number. pooled: over the cells of all images at once. "
    "What each number means, and cannot show: the docstring of exfuse.reports.features."
)


def _cells(row: SummaryRow) -> list[str]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} ({row.ratio_low:.2f}\N{EN DASH}{row.ratio_high:.2f})"
    rises = "" if row.rises is None else f"{100 * row.rises:.0f} %"
    return [_text(row.before, row.before_sd), _text(row.after, row.after_sd), ratio, rises, str(row.images)]


def _branch_cells(row: SummaryRow) -> list[str]:
    return [_text(row.after, row.after_sd), str(row.images)]


def _text(mean: float | None, spread: float | None = None) -> str:
    """Two significant digits, three from 1 on; the spread to the same place."""
    if mean is None:
        return ""
    digits = 2 if abs(mean) >= 1 or mean == 0 else 1 - math.floor(math.log10(abs(mean)))
    digits = max(0, digits - 1) if abs(mean) >= 10 else digits
    return f"{mean:.{digits}f}" if spread is None else f"{mean:.{digits}f}±{spread:.{digits}f}"


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
