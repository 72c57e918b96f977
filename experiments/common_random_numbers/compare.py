"""Intervals of one difference from paired and from independent seeds:  python compare.py BASELINE_STUDY SEB_STUDY"""

import math
import statistics
import sys
from pathlib import Path

from exfuse.analysis.resampling import Counts, Interval, difference
from exfuse.metrics.iou import mean_iou
from exfuse.store.study import load_study


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

variants = {"baseline": baseline, "SEB": seb}
scores = {name: {seed: 100 * float(mean_iou(one.sum(0))) for seed, one in runs.items()} for name, runs in variants.items()}
for name, by_seed in scores.items():
    print(f"{name} by seed: {', '.join(f'{seed}: {score:.2f}' for seed, score in by_seed.items())}")
paired = [scores["SEB"][seed] - scores["baseline"][seed] for seed in common]
apart = math.hypot(*(statistics.stdev(scores[name][seed] for seed in common) for name in scores))
print(
    f"Standard deviation of a difference over seeds: {statistics.stdev(paired):.2f} points paired, {apart:.2f} if independent."
)
