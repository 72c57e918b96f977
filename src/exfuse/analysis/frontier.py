"""Accuracy against cost, for figures and pages: where marks stand, and the rows that no cheaper one beats."""

import math
import statistics
from collections.abc import Callable, Sequence

from exfuse.analysis.comparisons import scored_on
from exfuse.errors import some
from exfuse.store.study import Study, StudyRow

_PRESSED, _ONE = 0.5, 0.97  # of the largest cost: where all are above, an axis from zero is half empty; they are as good as one
_FURTHEST = 4.0  # marks that a group of points spreads over; chosen


def lay_out(
    costs: Sequence[float], means: Sequence[float], spreads: Sequence[float], mark: tuple[float, float]
) -> tuple[tuple[float, float], list[float]]:
    """Both ends of an axis of these costs, and where on it each point of a mean score ± spread is seen.

    ``mark`` is a mark's width as a share of the axis, and its height as one of all that means and spreads take.
    """
    left, right = cost_axis(costs)
    ends = [mean + side * spread for mean, spread in zip(means, spreads, strict=True) for side in (-1, 1)]
    points = [*zip(costs, means, strict=True)]
    return (left, right), apart(points, mark[0] * (right - left), mark[1] * (max(ends) - min(ends)), (left, right))


def apart(
    points: Sequence[tuple[float, float]], wide: float, high: float, within: tuple[float, float] = (-math.inf, math.inf)
) -> list[float]:
    """x of points (x, y), moved as little as it takes to see each where marks ``wide`` and ``high`` would cover one another.

    Points that do so stand side by side around their mean, in their order; all others stay where they are. None leaves
    ``within``, nor moves by more than two marks: many overlap.
    """
    moved = [x for x, _ in points]
    waiting = sorted(range(len(points)), key=points.__getitem__)
    while waiting:
        group = [waiting.pop(0)]
        for member in group:
            near = [one for one in waiting if _touch(points[member], points[one], wide, high)]
            group += near
            waiting = [one for one in waiting if one not in near]
        if len(group) == 1:
            continue
        step = min(wide, _FURTHEST * wide / (len(group) - 1))
        length = (len(group) - 1) * step
        start = statistics.fmean(points[place][0] for place in group) - length / 2
        start = max(within[0] + wide / 2, min(start, within[1] - wide / 2 - length))
        for at, place in enumerate(sorted(group, key=lambda place: points[place][0])):
            moved[place] = start + at * step
    return moved


def _touch(one: tuple[float, float], other: tuple[float, float], wide: float, high: float) -> bool:
    return abs(one[0] - other[0]) < wide and abs(one[1] - other[1]) <= high


def cost_axis(costs: Sequence[float]) -> tuple[float, float]:
    """From zero, where shares of a cost are seen as what they are; around costs that differ, but by less than half."""
    low, high = min(costs), max(costs)
    span = high - low if _PRESSED * high < low < _ONE * high else high
    return max(0.0, high - span - (0.2 * span if span < high else 0.0)), high + 0.12 * span if high else 1.0


def frontier_of(points: Sequence[tuple[float, float, float]], better: Callable[[float], bool]) -> list[tuple[float, float]]:
    """Of points (x, y, cost), those to which none at the same or a lower cost is a difference for the better, by cost."""
    kept = [one for one in points if not any(better(other[1] - one[1]) and other[2] <= one[2] for other in points)]
    return [(x, y) for x, y, _ in sorted(kept)]


def reservations(study: Study, rows: Sequence[StudyRow], cost: str) -> str:
    """What a picture of ``rows`` against the cost of this key does not show; empty if nothing."""
    unknown = [row.title for row in study.rows if row.records and row.cost(cost) is None]
    told = f"; without {some(unknown)}, whose cost is not known" if unknown else ""
    return told if are_comparable(rows) else f"{told}; scored on different images: no frontier"


def are_comparable(rows: Sequence[StudyRow]) -> bool:
    """Whether all were scored on the same images."""
    return len(set[str]().union(*map(scored_on, rows))) == 1
