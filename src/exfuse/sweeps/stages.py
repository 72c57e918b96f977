"""The jobs of a study one stage after another: a search, then the runs that its table shows."""

from collections.abc import Callable, Iterable, Sequence

from exfuse.errors import ConfigError, plural
from exfuse.store.outcome import MISSING, Outcome
from exfuse.store.sequential import Sequential
from exfuse.store.tuning import DeclaredTune
from exfuse.sweeps.optuna import searching
from exfuse.sweeps.sequential import Additions, Save
from exfuse.sweeps.tuning import Describe, Job, Search, Stages, as_overrides, overridden_key
from exfuse.terminal import Console


class Plan:
    """What a sweep will run.

    Args:
        jobs: every row with every seed, as Hydra's sweeper lists them.
        tune: the study's search, if it has one.
        usual_seed: of jobs that name none.
        describe: composes a single run.
        additions: of a sequential study, made from its rows and seeds: with its rows' names and what saves it after each look.

    Attributes:
        search: of the study, or None.
        found: outcomes of the runs that the table shows; of a row whose search did not end, that they are missing.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        tune: DeclaredTune | None,
        usual_seed: int,
        describe: Describe,
        additions: Callable[[list[Job], list[int], "Plan"], tuple[Additions, list[str], Save]] | None = None,
    ) -> None:
        self.cells = [row_and_seed(job, usual_seed) for job in jobs]
        self.rows = [list(row) for row in dict.fromkeys(row for row, _ in self.cells)]
        self.search: Search | None = None
        self.left_out: list[str] = []  # of what the study would search
        self.found: list[Outcome] = []
        self.sequential: Sequential | None = None  # how far a sequential study is
        if tune is not None:
            search = searching(tune)(self.rows, tune, {seed for _, seed in self.cells}, describe)
            self.search = search if search.keys else None
            self.left_out = search.left_out
        self.jobs, self._additions = jobs, additions
        self._ended: dict[tuple[str, ...], Outcome] = {}  # of runs with all of train, by what was typed for them
        self._searching = False

    @property
    def longer(self) -> float:
        """How many times as long as a run of the search one takes that the table shows, by its epochs and images."""
        declared = self.search and self.search.declared
        return 1 / (declared.epochs * (1 - declared.held_out)) if declared else 1.0

    def to_come(self, stage: Sequence[Job]) -> int:
        """How many runs of the table follow this stage's jobs, as far as that is known: any may be added."""
        wanted = self._wanted(range(len(self.cells))).values()
        return sum(self._searching if job is None else job not in self._ended and [*job] not in stage for job in wanted)

    def stages(self, console: Console) -> Stages:
        """Jobs that may run side by side, stage by stage; how they ended is sent back."""
        if self.left_out:
            console.print(f"Not searched: {', '.join(self.left_out)}, which every row has already.", highlight=False)
        if self.search is not None:
            console.print(
                f"Search: {plural(len(self.search.jobs()), 'run')}, every row with {self.search.asks()}, scored on "
                f"{100 * self.search.declared.held_out:.0f} % of train; val is not read.",
                soft_wrap=True,
                highlight=False,
            )
            self._searching = True
            yield from self.search.stages()
            self._searching = False
            first = min(seed for _, seed in self.cells)
            yield from self._finals([place for place, (_, seed) in enumerate(self.cells) if seed == first], console)
        if self._additions is None or None in self._settled():
            yield from self._finals(range(len(self.cells)), console)
            self.found = [
                self._undecided(place) if job is None else self._ended[job]
                for place, job in self._wanted(range(len(self.cells))).items()
            ]
        else:
            yield from self._sequence(console)

    def _sequence(self, console: Console) -> Stages:
        assert self._additions is not None
        rows = [[*row, *(own or ())] for row, own in zip(self.rows, self._settled(), strict=True)]
        additions, names, save = self._additions(rows, sorted({seed for _, seed in self.cells}), self)
        seeds = additions.rule.seeds
        ended = {place: self._ended[job] for place, job in self._wanted(range(len(self.cells))).items() if job in self._ended}
        additions.take({(names[self._row(place)], seeds.index(self.cells[place][1])): one for place, one in ended.items()})
        yield from additions.stages(lambda name, seed: [*rows[names.index(name)], f"seed={seed}"], save, console)
        self.found = [*additions.found.values()]

    def _finals(self, places: Iterable[int], console: Console) -> Stages:
        """The runs that the table shows, of cells at some places; a row of which one diverges takes its next best settings."""
        places = [*places]
        while jobs := [job for job in self._wanted(places).values() if job is not None and job not in self._ended]:
            self._ended |= dict(zip(jobs, (yield [[*job] for job in jobs]), strict=True))
            for row in range(len(self.rows)):
                yield from self._pass_over(row, console)

    def _pass_over(self, row: int, console: Console) -> Stages:
        """Where a row diverged, choose anew, and search on where that lies at the end of the grid."""
        of_row = [place for place in range(len(self.cells)) if self._row(place) == row]
        ended = [self._ended[job] for job in self._wanted(of_row).values() if job in self._ended]
        if self.search is None or not self.search.pass_over(row, ended):
            return
        yield from self.search.widening()
        chosen = self.search.chosen(row)
        known = any((row, chosen) == (number, settings) for number, settings, _ in self.search.passed_over)
        following = "nothing sound is left, and the best stands" if known else "it takes the next best"
        settings = " ".join(as_overrides(chosen or {})) or "once its search has ended"
        told = f"{ended[0].row} diverged at what its search found best: {following}, {settings}."
        console.print(told, soft_wrap=True, highlight=False)

    def _wanted(self, places: Iterable[int]) -> dict[int, tuple[str, ...] | None]:
        """The job of each place as it is settled now; None of a row whose search is not finished."""
        settled = self._settled()
        own = {place: settled[self._row(place)] for place in places}
        return {place: None if one is None else (*self.jobs[place], *one) for place, one in own.items()}

    def _row(self, place: int) -> int:
        return self.rows.index(list(self.cells[place][0]))

    def _settled(self) -> list[Job | None]:
        """What its search settles of each row; None where that is not finished."""
        if self.search is None:
            return [[] for _ in self.rows]
        chosen = [self.search.chosen(row) for row in range(len(self.rows))]
        return [None if settings is None else as_overrides(settings) for settings in chosen]

    def _undecided(self, place: int) -> Outcome:
        assert self.search is not None
        row, seed = self._row(place), self.cells[place][1]
        of_search = [outcome for (number, _), outcome in self.search.outcomes.items() if number == row]
        reason = next((one.reason for one in of_search if one.reason), "")
        first = of_search[0]
        why = f"its search is not finished{f': {reason}' if reason else ''}"
        return Outcome(-1, [*self.jobs[place]], first.row, seed, first.choices, status=MISSING, reason=why)


def row_and_seed(job: Job, usual: int) -> tuple[tuple[str, ...], int]:
    """A job's row, as it was typed, and its seed; ``usual`` where none was typed.

    Raises:
        ConfigError: if its seed is no number.
    """
    typed = [override for override in job if overridden_key(override) == "seed"]
    try:
        seed = int(typed[-1].partition("=")[2]) if typed else usual
    except ValueError as error:
        raise ConfigError(f"{typed[-1]}: expected a whole number.") from error
    return tuple(override for override in job if overridden_key(override) != "seed"), seed
