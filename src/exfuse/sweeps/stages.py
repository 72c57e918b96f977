"""The jobs of a study one stage after another: a search, then the runs that its table shows."""

from collections.abc import Callable, Sequence

from exfuse.analysis.document import count
from exfuse.errors import ConfigError
from exfuse.store.outcome import MISSING, Outcome
from exfuse.store.sequential import Sequential
from exfuse.store.tuning import DeclaredTune
from exfuse.sweeps.optuna import searching
from exfuse.sweeps.sequential import Additions, Save
from exfuse.sweeps.tuning import Describe, Job, Search, Stages, as_overrides, key_of
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
        self.cells = [_row_and_seed(job, usual_seed) for job in jobs]
        self.rows = [list(row) for row in dict.fromkeys(row for row, _ in self.cells)]
        self.search: Search | None = None
        self.found: list[Outcome] = []
        self.sequential: Sequential | None = None  # how far a sequential study is
        if tune is not None:
            search = searching(tune)(self.rows, tune, {seed for _, seed in self.cells}, describe)
            self.search = search if search.keys else None
        self.jobs, self._additions = jobs, additions

    def stages(self, console: Console) -> Stages:
        """Jobs that may run side by side, stage by stage; how they ended is sent back."""
        settled: list[Job | None] = [[] for _ in self.rows]
        if self.search is not None:
            console.print(
                f"Search: {count(len(self.search.jobs()), 'run')}, every row with {self.search.asks()}, scored on "
                f"{100 * self.search.declared.held_out:.0f} % of train; val is not read.",
                soft_wrap=True,
                highlight=False,
            )
            yield from self.search.stages()
            chosen = [self.search.chosen(row) for row in range(len(self.rows))]
            settled = [None if settings is None else as_overrides(settings) for settings in chosen]
        if self._additions is None or any(own is None for own in settled):
            yield from self._finals(settled)
        else:
            yield from self._sequence([[*row, *(own or [])] for row, own in zip(self.rows, settled, strict=True)], console)

    def _sequence(self, rows: list[Job], console: Console) -> Stages:
        assert self._additions is not None
        additions, names, save = self._additions(rows, sorted({seed for _, seed in self.cells}), self)
        yield from additions.stages(lambda name, seed: [*rows[names.index(name)], f"seed={seed}"], save, console)
        self.found = [*additions.found.values()]

    def _finals(self, settled: Sequence[Job | None]) -> Stages:
        jobs = [
            (job, settled[self.rows.index(list(row))], row, seed)
            for job, (row, seed) in zip(self.jobs, self.cells, strict=True)
        ]
        if known := [[*job, *own] for job, own, _, _ in jobs if own is not None]:
            self.found = yield known
        self.found += [self._undecided(self.rows.index(list(row)), seed) for _, own, row, seed in jobs if own is None]

    def _undecided(self, row: int, seed: int) -> Outcome:
        assert self.search is not None
        of_search = [outcome for (number, _), outcome in self.search.outcomes.items() if number == row]
        reason = next((one.reason for one in of_search if one.reason), "")
        first = of_search[0]
        why = f"its search is not finished{f': {reason}' if reason else ''}"
        return Outcome(-1, first.overrides, first.row, seed, first.choices, status=MISSING, reason=why)


def _row_and_seed(job: Job, usual: int) -> tuple[tuple[str, ...], int]:
    typed = [override for override in job if key_of(override) == "seed"]
    try:
        seed = int(typed[-1].partition("=")[2]) if typed else usual
    except ValueError as error:
        raise ConfigError(f"{typed[-1]}: expected a whole number.") from error
    return tuple(override for override in job if key_of(override) != "seed"), seed
