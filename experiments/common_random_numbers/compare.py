"""Intervals of one difference from paired and from independent seeds:  python compare.py BASELINE_STUDY SEB_STUDY"""

import sys
from pathlib import Path

from src.analysis.resampling import Counts, Interval, difference
from src.analysis.study import load_study


def counts(folder: str) -> dict[int, Counts]:
    """Per-image confusion counts of a study of one row, by seed."""
    (row,) = load_study(Path(folder)).rows
    return {seed: row.runs[seed].counts() for seed in row.records}


def show(name: str, interval: Interval) -> None:
    low, estimate, high = (100 * value for value in (interval.low, interval.estimate, interval.high))
    length = f"length {high - low:.2f} points of mIoU, p {interval.p_value:.3f}"
    print(f"{name:<42} {estimate:+.2f} [{low:+.2f}, {high:+.2f}], {length}")


baseline, seb = counts(sys.argv[1]), counts(sys.argv[2])
common = {seed: runs for seed, runs in seb.items() if seed in baseline}
other = {seed: runs for seed, runs in seb.items() if seed not in baseline}
images = len(next(iter(baseline.values())))
print(f"SEB minus baseline, generated scenes, {images} val images, seeds {sorted(baseline)}; three runs of each in every line.")
show(f"paired, SEB seeds {sorted(common)}", difference(common, baseline))
show("the same runs, taken as independent", difference(common, baseline, paired_seeds=False))
show(f"independent, SEB seeds {sorted(other)}", difference(other, baseline, paired_seeds=False))
