"""Adding seeds until every comparison is decided, with false alarms that all looks together keep to 5 %.

A look at a comparison with n seeds takes its interval at the level ``1 - 0.05 * share(n) / m``, m being the number of
comparisons and the shares of all looks that there can ever be adding up to one. By Bonferroni's inequality all
intervals of all looks hold the true difference at once with 95 %, in whatever order comparisons are looked at and
however it is chosen which gets the next seed: a comparison may be called different where one lies on one side of
zero, or smaller than a size where one lies within it. This is alpha spending; what is spent depends on the number of
seeds alone, so that a study that was stopped spends nothing twice.
"""

from collections.abc import Callable, Sequence

from exfuse.store.sequential import DIFFERENT, SMALLER, UNDECIDED, Look, Rule

ALPHA = 0.05
Pair = tuple[str, str]
# of a comparison over its first n seeds at a level, in points; None where there is nothing to compare
Bounds = Callable[[Pair, int, float], tuple[float, float] | None]


def share(seeds: int, rule: Rule) -> float:
    """The share of its comparison's false alarms that the look at so many seeds may spend; in proportion to seeds - 1.

    Early looks, whose t has few degrees of freedom, could tell little with more.
    """
    return (seeds - 1) / sum(number - 1 for number in range(rule.first, len(rule.seeds) + 1))


def level(seeds: int, rule: Rule) -> float:
    """Confidence of the interval of one look."""
    return 1 - ALPHA * share(seeds, rule) / len(rule.pairs)


def adjusted_p(p_values: Sequence[float], rule: Rule) -> float:
    """The smallest family-wise error at which a comparison's looks so far call it different.

    Args:
        p_values: of the interval over the first ``rule.first`` seeds, one more and so on.
    """
    spent = [p * len(rule.pairs) / share(seeds, rule) for seeds, p in enumerate(p_values, rule.first)]
    return min([1.0, *spent])


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
                    verdict = self._verdict(*found)
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

    def _verdict(self, low: float, high: float) -> str:
        if low > 0 or high < 0:
            return DIFFERENT
        if self.rule.size is not None and max(-low, high) < self.rule.size:
            return SMALLER
        return UNDECIDED

    def _runs_to_go(self, pair: Pair) -> float:
        last, number = self._last.get(pair), self.seeds(pair)
        if last is None:
            return 0.0
        half, estimate = (last.high - last.low) / 2, abs(last.high + last.low) / 2
        reach = max(estimate, (self.rule.size or 0.0) - estimate)  # a half-width that decides
        further = number * max((half / reach) ** 2 - 1, 0.0) if reach > 0 else float("inf")
        behind = sum(self.have[name] == number for name in pair)
        return max(further, 1.0) * behind
