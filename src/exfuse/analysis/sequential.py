"""Adding seeds until every comparison is decided, with false alarms that all looks together keep to 5 %.

A comparison may be called different from zero where the interval of a look lies on one side of it, and smaller than a size
where it is told from that size on either side (two one-sided tests, Schuirmann 1987): only one of the two can be wrong, so
each may spend all that a comparison has, which is 5 % / m of m comparisons (Bonferroni).

A comparison's looks share that by the significance level approach to group sequential t tests (Jennison & Turnbull 2000,
section 4.4): the look after n seeds takes Student's t at the level ``spent * share(n)``, where ``spent`` is what keeps false
alarms of all looks that there can ever be to 5 % / m, as drawn trainings show (`smallest`). They count as one wherever a
comparison ends and whichever gets the next seed. Looks share the images, whose noise makes them more alike than drawn
trainings are, which is safe.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from exfuse.store.sequential import DIFFERENT, SMALLER, UNDECIDED, Look, Rule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALPHA = 0.05
Pair = tuple[str, str]
# of a comparison over its first n seeds at a level, in points; None where there is nothing to compare
Bounds = Callable[[Pair, int, float], tuple[float, float] | None]
_DRAWN = 400_000  # comparisons; what 20 of them may spend is then known to 3 %


def spent_share(seeds: int, first: int, most: int) -> float:
    """The share of its comparison's false alarms that the look at so many seeds may spend; in proportion to (seeds - 1)^2.

    Early looks, whose t has few degrees of freedom, could tell little with more.
    """
    return (seeds - 1) ** 2 / sum((number - 1) ** 2 for number in range(first, most + 1))


@cache
def smallest(first: int, most: int) -> "NDArray[np.float64]":
    """The smallest p / share over all looks where there is no difference, of as many drawn comparisons, sorted."""
    import numpy as np  # with scipy: once there is something to look at
    from scipy.special import stdtr

    rng = np.random.default_rng(0)
    total, squares, found = np.zeros(_DRAWN), np.zeros(_DRAWN), np.full(_DRAWN, np.inf)
    for number in range(1, most + 1):
        training = rng.standard_normal(_DRAWN)
        total += training
        squares += training**2
        if number >= first:
            variance = (squares - total**2 / number) / (number - 1)
            p_values = 2 * stdtr(number - 1, -np.abs(total) / np.sqrt(number * variance))
            np.minimum(found, p_values / spent_share(number, first, most), out=found)
    return np.sort(found)


def level(seeds: int, rule: Rule) -> float:
    """Confidence of the interval of one look."""
    first, most = rule.first, len(rule.seeds)
    spent = smallest(first, most)[_place(rule)]
    return float(1 - spent * spent_share(seeds, first, most))


def _place(rule: Rule) -> int:
    """Among drawn comparisons: what lies below it is less than 5 % / m of them, so that a look's verdict is a finding."""
    return int(_DRAWN * ALPHA / len(rule.pairs)) - 1


def sequential_p(p_values: Sequence[float], rule: Rule) -> float:
    """The smallest family-wise error at which a comparison's looks so far call it different.

    Args:
        p_values: of the interval over the first ``rule.first`` seeds, one more and so on.
    """
    first, most = rule.first, len(rule.seeds)
    spent = min((p / spent_share(seeds, first, most) for seeds, p in enumerate(p_values, first)), default=1.0)
    fewest = min(1000, _place(rule))  # fewer would know it badly, more would hide what was decided
    reached = max(fewest, int(smallest(first, most).searchsorted(spent, "right"))) / _DRAWN
    return float(min(1.0, len(rule.pairs) * min(reached, spent)))  # `spent` is Bonferroni's bound


class Deciding:
    """Which comparison is decided, and which row takes which seed next.

    Args:
        rule: fixed before the first look.

    Attributes:
        have: how many seeds, in their order, each row has finished.
        looks: so far.
        verdicts: of the comparisons that are decided.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.have = {name: 0 for pair in rule.pairs for name in pair}
        self.looks: list[Look] = []
        self.verdicts: dict[Pair, str] = {}
        self._last: dict[Pair, Look] = {}

    def seeds(self, pair: Pair) -> int:
        """How many seeds both rows have."""
        return min(self.have[name] for name in pair)

    def look(self, bounds: Bounds) -> None:
        """Look at every undecided comparison that has more seeds than at its last look, once for each further seed."""
        for pair in self.rule.pairs:
            before = self._last[pair].seeds if pair in self._last else self.rule.first - 1
            for number in range(before + 1, self.seeds(pair) + 1):
                if pair not in self.verdicts and (found := bounds(pair, number, level(number, self.rule))) is not None:
                    verdict = DIFFERENT if found[0] > 0 or found[1] < 0 else self._small(pair, number, bounds)
                    look = Look(row=pair[0], base=pair[1], seeds=number, low=found[0], high=found[1], verdict=verdict)
                    self.looks.append(look)
                    self._last[pair] = look
                    if verdict:
                        self.verdicts[pair] = verdict

    def following(self, stuck: Sequence[str] = (), at_once: int = 1) -> list[tuple[str, int]]:
        """Row and place of the seed that it takes next, of the most useful comparisons; empty where none can go on.

        The most useful is that with the fewest further runs until its interval, shrinking with the root of its seeds, decides.

        Args:
            stuck: rows whose next seed failed.
            at_once: of how many comparisons.
        """
        open_pairs = [
            pair
            for pair in self.rule.pairs
            if pair not in self.verdicts and self.seeds(pair) < len(self.rule.seeds) and not {*pair} & {*stuck}
        ]
        chosen = sorted(open_pairs, key=self._runs_to_go)[:at_once]
        wanted = [(name, self.seeds(pair)) for pair in chosen for name in pair if self.have[name] == self.seeds(pair)]
        return list(dict.fromkeys(wanted))

    def _small(self, pair: Pair, number: int, bounds: Bounds) -> str:
        if (size := self.rule.size) is None:
            return UNDECIDED
        one_sided = bounds(pair, number, 2 * level(number, self.rule) - 1)
        return SMALLER if one_sided and max(-one_sided[0], one_sided[1]) < size else UNDECIDED

    def _runs_to_go(self, pair: Pair) -> float:
        last, number = self._last.get(pair), self.seeds(pair)
        if last is None:
            return 0.0
        half, estimate = (last.high - last.low) / 2, abs(last.high + last.low) / 2
        reach = max(estimate, (self.rule.size or 0.0) - estimate)  # a half-width that decides
        further = number * max((half / reach) ** 2 - 1, 0.0) if reach > 0 else float("inf")
        behind = sum(self.have[name] == number for name in pair)
        return max(further, 1.0) * behind
