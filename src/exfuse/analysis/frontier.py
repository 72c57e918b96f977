"""Accuracy against cost, for figures and pages: marks that none covers, and those that no cheaper row beats."""

import statistics
from collections.abc import Callable, Sequence

_PRESSED, _ONE = 0.5, 0.97  # of the largest cost: where all are above, an axis from zero is half empty; they are as good as one


def apart(points: Sequence[tuple[float, float]], wide: float, high: float) -> list[float]:
    """x of points (x, y), moved as little as it takes to see each where marks ``wide`` and ``high`` would cover one another.

    Points that do so stand side by side around their mean, in their order; all others stay where they are.
    """
    moved = [x for x, _ in points]
    waiting = sorted(range(len(points)), key=points.__getitem__)
    while waiting:
        group = [waiting.pop(0)]
        for member in group:
            near = [one for one in waiting if _touch(points[member], points[one], wide, high)]
            group += near
            waiting = [one for one in waiting if one not in near]
        start = statistics.fmean(points[place][0] for place in group) - (len(group) - 1) / 2 * wide
        for at, place in enumerate(sorted(group, key=lambda place: points[place][0])):
            moved[place] = start + at * wide if len(group) > 1 else points[place][0]
    return moved


def _touch(one: tuple[float, float], other: tuple[float, float], wide: float, high: float) -> bool:
    return abs(one[0] - other[0]) < wide and abs(one[1] - other[1]) < high


def cost_axis(costs: Sequence[float]) -> tuple[float, float]:
    """From zero, where shares of a cost are seen as what they are; around costs that differ, but by less than half."""
    low, high = min(costs), max(costs)
    span = high - low if _PRESSED * high <= low < _ONE * high else high
    return max(0.0, high - span - (0.2 * span if span < high else 0.0)), high + 0.12 * span if high else 1.0


def frontier_of(points: Sequence[tuple[float, float, float]], better: Callable[[float], bool]) -> list[tuple[float, float]]:
    """Of points (x, y, cost), those to which none at the same or a lower cost is a difference for the better, by cost."""
    kept = [one for one in points if not any(better(other[1] - one[1]) and other[2] <= one[2] for other in points)]
    return [(x, y) for x, y, _ in sorted(kept)]
