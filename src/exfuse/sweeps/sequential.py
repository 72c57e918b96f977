"""A sequential study: seeds comparison by comparison until each is decided, see `exfuse.analysis.sequential`."""

from collections.abc import Callable, Collection, Mapping, Sequence

from exfuse.analysis.sequential import Deciding, Pair
from exfuse.errors import ConfigError, plural
from exfuse.store.description import Sweep
from exfuse.store.folder import RunFolder
from exfuse.store.grouping import GroupRule, grouping_of
from exfuse.store.outcome import ELSEWHERE, GOOD, SKIPPED, Outcome
from exfuse.store.sequential import UNDECIDED, Rule, Sequential
from exfuse.sweeps.tuning import Job, Stages
from exfuse.terminal import Console, RichTable

Save = Callable[[list[Outcome], Sequential], None]
_FREE = (SKIPPED, ELSEWHERE)  # what this start did not train


def before_first_look(seeds: Collection[int], sweep: Sweep) -> int:
    """How many seeds every row has before the first look.

    Raises:
        ConfigError: if they are more than a sequential study may have.
    """
    first = max(2, len(seeds))
    if sweep.most.seeds < first:
        raise ConfigError(
            f"sweep.most.seeds={sweep.most.seeds}: expected at least {first}, which every row has before the first look."
        )
    return first


class Additions:
    """Which seeds a sequential study's rows take, and when it ends.

    Args:
        pairs: row and the row it builds on, by their names in the study.
        seeds: that every row has before the first look, of at least two where ``sweep.most.seeds`` allows them.
        sweep: how long it goes on, and when a comparison is decided.
        excluded: seeds that are others', such as the search's.
        earlier: what the study's file says of an earlier start.
        groups: which images are not independent; None for what the runs say.
        alone: rows in no comparison; they take the seeds that every row has before the first look.

    Raises:
        ConfigError: if there is nothing to compare or too little to spend, or an earlier start had another rule.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        seeds: Sequence[int],
        sweep: Sweep,
        excluded: Sequence[int],
        earlier: Sequential | None,
        groups: GroupRule | None = None,
        alone: Sequence[str] = (),
    ) -> None:
        if not pairs:
            raise ConfigError("sweep.until=decided: no row of this study builds on another that is swept too.")
        first, most = before_first_look(seeds, sweep), sweep.most.seeds
        more = (number for number in range(max(seeds) + 1, max(seeds) + most + 2) if number not in excluded)
        order = [*seeds, *(next(more) for _ in range(most - len(seeds)))]
        self.rule = Rule(seeds=order, first=first, pairs=[*pairs], size=sweep.size)
        self.hours = earlier.hours if earlier else 0.0
        if earlier is not None and earlier.rule != self.rule and not earlier.looks:
            earlier = None  # nobody has looked
        if earlier is not None and earlier.rule != self.rule:
            raise ConfigError(
                f"This study has been looked at under another rule (seeds {earlier.rule.seeds}, {earlier.rule.first} before "
                f"the first look, size {earlier.rule.size}): its false alarms would no longer be known. Give the same seed, "
                "sweep.size, sweep.most.seeds and rows, or set sweep.output to another folder."
            )
        self.sweep, self.earlier = sweep, earlier
        self.deciding, self.groups = Deciding(self.rule), groups
        self.names = [*self.deciding.have, *alone]
        self.found: dict[tuple[str, int], Outcome] = {}

    def stages(self, job: Callable[[str, int], Job], save: Save, console: Console) -> Stages:
        """The first seeds of every row, then, look by look, the next seed of the most useful comparisons."""
        first = [(name, place) for name in self.names for place in range(self.rule.first)]
        ended, wanted = "", [cell for cell in first if cell not in self.found]
        while wanted:
            outcomes = yield [job(name, self.rule.seeds[place]) for name, place in wanted]
            self.take(dict(zip(wanted, outcomes, strict=True)))
            for name in self.deciding.have:
                self.deciding.have[name] = self._finished(name)
            looks = len(self.deciding.looks)
            if not looks and self.earlier is None:
                save([*self.found.values()], self.file(""))  # the rule stands before anybody looks
            if any(self.deciding.seeds(pair) >= self.rule.first for pair in self.rule.pairs):
                self.deciding.look(self._bounds(console))
            have = self.deciding.have
            stuck = [name for (name, place), one in self.found.items() if place == have.get(name) and not _good(one)]
            wanted = self.deciding.following(stuck, self.sweep.most.at_once)
            ended = self._ended(wanted, stuck)
            wanted = [] if ended else wanted
            save([*self.found.values()], self.file(ended))
            if len(self.deciding.looks) > looks or not wanted:
                console.print(self.table(wanted, ended))

    def take(self, ended: Mapping[tuple[str, int], Outcome]) -> None:
        """Learn how runs ended, by their row and the place of their seed."""
        self.found |= ended
        self.hours += sum(one.seconds for one in ended.values() if one.status not in _FREE) / 3600

    def file(self, ended: str) -> Sequential:
        """What study.json keeps; looks of an earlier start stay there while they are taken again."""
        looks = self.deciding.looks
        if self.earlier and looks == self.earlier.looks[: len(looks)]:
            looks = self.earlier.looks
        runs = sum(_good(outcome) for outcome in self.found.values())
        known = [record for one in self.found.values() if _good(one) and (record := one.record())]
        hours = max(self.hours, sum(record.seconds for record in known) / 3600)
        return Sequential(rule=self.rule, looks=[*looks], runs=runs, hours=round(hours, 4), ended=ended)

    def table(self, wanted: Sequence[tuple[str, int]], ended: str) -> RichTable:
        """Where every comparison stands, and what comes next."""
        table = RichTable("comparison", "seeds", "points, with the interval of the last look", "verdict", title="Looks so far")
        last = {(look.row, look.base): look for look in self.deciding.looks}
        for pair in self.rule.pairs:
            look = last.get(pair)
            bounds = f"{(look.low + look.high) / 2:+.2f} [{look.low:+.2f}, {look.high:+.2f}]" if look else "not looked at"
            told = self.deciding.verdicts.get(pair, UNDECIDED) or "undecided"
            told = f"smaller than {self.rule.size:g}" if told == "smaller" else told
            table.add_row(f"{pair[0]} vs {pair[1]}", str(self.deciding.seeds(pair)), bounds, told)
        names = ", ".join(f"{name} seed {self.rule.seeds[place]}" for name, place in wanted)
        table.caption = f"Ended: {ended}." if ended else f"Next: {names}."
        return table

    def _finished(self, name: str) -> int:
        number = 0
        while number < len(self.rule.seeds) and (one := self.found.get((name, number))) and _good(one):
            number += 1
        return number

    def _bounds(self, console: Console) -> Callable[[Pair, int, float], tuple[float, float] | None]:
        cells: dict[str, dict[int, RunFolder]] = {}
        for (name, place), one in self.found.items():
            if place < self.deciding.have.get(name, 0):
                cells.setdefault(name, {})[self.rule.seeds[place]] = one.folder
        from exfuse.analysis.resampling import Resampled  # once there is something to look at

        with console.status("Looking: resampling images"):
            first = next(run for runs in cells.values() for run in runs.values())
            scored = first.scored()
            grouping = scored.grouping if self.groups is None else grouping_of(scored.ids, self.groups)
            areas = {name: {seed: run.scored().additive for seed, run in runs.items()} for name, runs in cells.items()}
            drawn = Resampled(areas, grouping=grouping)

        def bounds(pair: Pair, number: int, level: float) -> tuple[float, float]:
            found = drawn.contrast({pair[0]: 1, pair[1]: -1}, level, seeds=self.rule.seeds[:number])
            return 100 * found.low, 100 * found.high

        return bounds

    def _ended(self, wanted: Sequence[tuple[str, int]], stuck: Sequence[str]) -> str:
        """Why nothing follows; "" if something does."""
        most = self.sweep.most
        again = self.earlier is not None and self.hours == self.earlier.hours  # nothing was trained in this start
        if again and self.earlier and len(self.deciding.looks) < len(self.earlier.looks) and wanted:
            return ""  # what an earlier start took is not spent anew
        runs = sum(_good(outcome) for outcome in self.found.values())
        if len(self.deciding.verdicts) == len(self.rule.pairs):
            return "every comparison is decided"
        if most.runs is not None and runs + len(wanted) > most.runs:
            return f"sweep.most.runs={most.runs} is spent"
        if most.hours is not None and self.hours >= most.hours:
            return f"sweep.most.hours={most.hours:g} is spent"
        if not wanted and stuck:
            return f"runs of {', '.join(dict.fromkeys(stuck))} are not finished"
        return "" if wanted else f"all {plural(most.seeds, 'seed')} are spent"


def pairs_of(names: Sequence[str], builds_on: Mapping[str, str | None]) -> list[Pair]:
    """The comparisons among rows of these names."""
    return [(name, base) for name in names if (base := builds_on.get(name)) in names and base is not None and base != name]


def _good(outcome: Outcome) -> bool:
    return outcome.status in GOOD
