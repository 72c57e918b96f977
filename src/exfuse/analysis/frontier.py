"""Accuracy against cost, for figures and pages: rows of one cost side by side, and those that no cheaper row beats."""

import statistics
from collections.abc import Callable, Sequence

APART = 0.02  # of the largest cost, between rows of one cost


def dodged(values: Sequence[float], apart: float) -> list[float]:
    """The values moved as little as it takes for neighbours to lie ``apart``, groups around their mean; their order stays.

    No group of costs is moved beyond zero, where an axis of costs begins.
    """
    groups: list[list[int]] = []

    def start(group: Sequence[int]) -> float:
        mean = statistics.fmean(values[place] for place in group)
        return max(mean - (len(group) - 1) / 2 * apart, min(apart, *(values[place] for place in group)))

    for place in sorted(range(len(values)), key=values.__getitem__):
        groups.append([place])
        while len(groups) > 1 and start(groups[-1]) - start(groups[-2]) < (len(groups[-2]) - 1e-9) * apart:
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = list(values)
    for group in groups:
        for place, at in enumerate(group):
            moved[at] = start(group) + place * apart
    return moved


def frontier_of(points: Sequence[tuple[float, float, float]], better: Callable[[float], bool]) -> list[tuple[float, float]]:
    """Of points (x, y, cost), those to which none at the same or a lower cost is a difference for the better, by cost."""
    kept = [one for one in points if not any(better(other[1] - one[1]) and other[2] <= one[2] for other in points)]
    return [(x, y) for x, y, _ in sorted(kept)]
