"""What is each technique worth, on its own and beside the others? Effects of a factorial study, with intervals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from exfuse.analysis.resampling import Additive, Interval, Resampled
from exfuse.store.grouping import Grouping

Subset = frozenset[str]  # the techniques that are on in a cell


@dataclass(frozen=True)
class FactorialEffects:
    """Effects of k techniques on the score, in its unit.

    main: by technique, the score with it minus without it, averaged over all 2^(k-1) settings of the others.
    interactions: by pair in the order of the factors, (both - first) - (second - neither), averaged over all 2^(k-2)
        settings of the rest: by how much the one's gain grows when the other is on. (Some books halve it.)
    shapley: by technique, its gain averaged over all k! orders in which the techniques can be added one by one.
        Together they are exactly ``total``. Where no gain depends on the others, it equals the main effect.
    total: the score with all techniques minus with none.
    """

    main: dict[str, Interval]
    interactions: dict[tuple[str, str], Interval]
    shapley: dict[str, Interval]
    total: Interval


def factorial_effects(
    cells: Mapping[Subset, Mapping[int, Additive]],
    factors: Sequence[str],
    resamples: int = 10_000,
    grouping: Grouping | None = None,
) -> FactorialEffects:
    """Main effects, interactions and Shapley values with 95 % intervals, each for itself, all from one set of resamples.

    Args:
        cells: by the techniques that are on, what images contribute by seed; of all 2^k subsets the same seeds.
        factors: the k techniques.
        resamples: of the images, see `Resampled`.
        grouping: which images are not independent; None where all are.

    Raises:
        UserError: if `Resampled` refuses the runs.
    """
    resampled = Resampled({_name(subset, factors): runs for subset, runs in cells.items()}, resamples, grouping=grouping)

    def interval(weights: Mapping[Subset, float]) -> Interval:
        return resampled.contrast({_name(subset, factors): weight for subset, weight in weights.items()})

    return FactorialEffects(
        main={factor: interval(main_effect(factor, factors)) for factor in factors},
        interactions={pair: interval(interaction(*pair, factors)) for pair in combinations(factors, 2)},
        shapley={factor: interval(shapley_value(factor, factors)) for factor in factors},
        total=interval({frozenset(factors): 1.0, frozenset(): -1.0}),
    )


def main_effect(factor: str, factors: Sequence[str]) -> dict[Subset, float]:
    """Weights of the cells in ``factor``'s main effect: +-1 / 2^(k-1)."""
    return {subset: (1 if factor in subset else -1) / 2 ** (len(factors) - 1) for subset in _subsets(factors)}


def interaction(first: str, second: str, factors: Sequence[str]) -> dict[Subset, float]:
    """Weights of the cells in the interaction of two factors: +1 / 2^(k-2) where both or neither is on, else minus that."""
    return {
        subset: (1 if (first in subset) == (second in subset) else -1) / 2 ** (len(factors) - 2) for subset in _subsets(factors)
    }


def shapley_value(factor: str, factors: Sequence[str]) -> dict[Subset, float]:
    """Weights of the cells in ``factor``'s Shapley value.

    Its gain on top of a subset of n others counts as often as an order has just these before it: n! (k - n - 1)! / k!.
    """
    weights: dict[Subset, float] = {}
    for before in _subsets([other for other in factors if other != factor]):
        share = math.factorial(len(before)) * math.factorial(len(factors) - len(before) - 1) / math.factorial(len(factors))
        weights[before | {factor}] = share
        weights[before] = -share
    return weights


def _subsets(factors: Sequence[str]) -> Iterator[Subset]:
    """All 2^k subsets, the empty one first."""
    return (frozenset(chosen) for size in range(len(factors) + 1) for chosen in combinations(factors, size))


def _name(subset: Subset, factors: Sequence[str]) -> str:
    return "+".join(factor for factor in factors if factor in subset) or "none of them"
