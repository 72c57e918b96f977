"""A study's search: every row tries the same grid on a part of train; its final runs take what was best for it."""

import re
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from itertools import starmap
from typing import Any

from msgspec.structs import replace

from exfuse.config.words import as_typed, nearest_key
from exfuse.errors import ConfigError
from exfuse.store.checked import at
from exfuse.store.description import NO_STOP, RunDescription, to_plain
from exfuse.store.outcome import FAILED_BEFORE, Outcome
from exfuse.store.record import FAILED, Record
from exfuse.store.tuning import DeclaredTune, Trial, Tuning, Value, best, beyond, ends, is_verdict, points, resolved

_LOOKS = 4  # validations of a run that may be given up
Job = list[str]  # the overrides of one run
Point = tuple[int, dict[str, Value]]  # a row's place and settings that it tries
Describe = Callable[[Sequence[str]], RunDescription]
Stages = Generator[list[Job], list[Outcome], None]  # jobs that may run side by side; how they ended is sent back


class Search:
    """What a study's rows try, job by job, and what came of it.

    Args:
        rows: overrides of each row, without its seed.
        tune: what the study declares.
        seeds: of the study.
        describe: composes a single run.

    Raises:
        ConfigError: if the search's seed is one of the study's, or a value of the grid cannot be used.
    """

    def __init__(self, rows: Sequence[Job], tune: DeclaredTune, seeds: Collection[int], describe: Describe) -> None:
        if tune.seed in seeds:
            raise ConfigError(f"study.tune.seed={tune.seed} is one of the study's seeds: the search needs one of its own.")
        self.rows, self._describe = [*rows], describe
        self.settled = {
            overridden_key(override) for row in rows for override in row
        }  # what was typed, or is swept, is not searched
        searched = [*tune.grid, *tune.space]
        for row in rows:
            if lacking := [key for key in searched if overridden_key(key) in self.settled - {*map(overridden_key, row)}]:
                raise ConfigError(
                    f"study.tune searches {lacking[0]}, which some rows set and {' '.join(row) or 'another'} does not: "
                    "rows are tuned alike. Set it in every row or in none."
                )
        self.left_out = [key for key in searched if overridden_key(key) in self.settled]
        self.declared = self._resolved(tune)
        self.grid = {key: [*values] for key, values in self.declared.grid.items()}
        self.outcomes: dict[tuple[int, str], Outcome] = {}  # see `named`
        self.widened = 0  # times
        self.passed_over: list[tuple[int, dict[str, Value], Outcome]] = []  # row, settings, a run of its own that diverged

    def _resolved(self, tune: DeclaredTune) -> DeclaredTune:
        """What is declared, without what is settled, multiples as numbers."""
        check_free(tune.grid)
        if not tune.grid:
            raise ConfigError(
                "study.tune.grid is empty: name what every row tries, such as {recipe.lr: [0.3x, 1x, 3x]}; a space is searched "
                "by study.tune.search=optuna."
            )
        grid = {key: values for key, values in tune.grid.items() if overridden_key(key) not in self.settled}
        if empty := [key for key, values in grid.items() if not values]:
            raise ConfigError(f"study.tune.grid: {empty[0]} has no value to try.")
        return replace(tune, grid={key: self._resolve("grid", key, values) for key, values in grid.items()}, trials=None)

    @property
    def keys(self) -> list[str]:
        """What is searched."""
        return [*self.grid]

    def asks(self) -> str:
        """What every row tries, for people."""
        return "each " + ", ".join(f"{key} of {', '.join(map(str, values))}" for key, values in self.grid.items())

    def tried(self, row: int) -> list[dict[str, Value]]:  # noqa: ARG002 - all rows try the same
        """The settings of a row's runs."""
        return points(self.grid)

    def jobs(self) -> list[Job]:
        """Every run of the grid as it is, see `job`."""
        return [self.job(row, settings) for row, settings in self._points()]

    def job(self, row: int, settings: dict[str, Value], floors: Sequence[float] | None = None) -> Job:
        """One run of the search: the row's, with a part of train held out and its schedule as long as its epochs.

        Args:
            row: its place.
            settings: to try.
            floors: see `exfuse.store.tuning.floors`.

        Raises:
            ConfigError: if the settings are out of their range.
        """
        tune = self.declared
        typed = [*self.rows[row], *as_overrides(settings)]
        run = self._describe(typed)
        recipe, stop = run.recipe, run.stop
        epochs = max(1, round(tune.epochs * recipe.epochs))
        own: dict[str, Any] = {"seed": tune.seed, "recipe.epochs": epochs, "recipe.val_every": epochs}
        if stop.patience is not None:  # of one validation there is nothing to wait for
            own |= {f"stop.{name}": getattr(NO_STOP, name) for name in ("patience", "min_delta", "share", "seed")}
        own |= {
            f"stop.{unit}": max(1, round(tune.epochs * limit)) for unit in ("epochs", "steps") if (limit := getattr(stop, unit))
        }
        if tune.prune:
            own |= {"recipe.val_every": max(1, epochs // _LOOKS), "+stop.floors": [*(floors or ())]}
        for name, steps in recipe.schedule.settings.items():
            if name.endswith("_steps") and isinstance(steps, int):  # counted in steps of the whole training
                own[f"recipe.schedule.{name}"] = round(tune.epochs * steps)
        own |= {"held_out.share": tune.held_out, "held_out.seed": tune.seed}
        return [*(override for override in typed if overridden_key(override) not in own), *as_overrides(own)]

    def stages(self) -> Stages:
        """The grid, then what widens it; rows of which no run ended well at an earlier start are tried again."""
        yield from self._explore()
        yield from self.widening()

    def widening(self) -> Stages:
        """What widens the grid as long as a row's best lies at its end, within the bound of the whole search."""
        while self.widened < self.declared.widen and self._widen():
            self.widened += 1
            yield from self._explore()

    def _explore(self) -> Stages:
        yield from self._launch([point for point in self._points() if named(*point) not in self.outcomes])
        hopeless = {row for row in range(len(self.rows)) if all(one.status == FAILED_BEFORE for one in self._of(row))}
        if hopeless:
            yield from self._launch([point for point in self._points() if point[0] in hopeless], ["overwrite=true"])

    def chosen(self, row: int) -> dict[str, Value] | None:
        """The row's best settings; None while its search is not finished."""
        trials = [_trial(settings, self._outcome(row, settings)) for settings in self.tried(row)]
        passed_over = [settings for number, settings, _ in self.passed_over if number == row]
        return best(trials, _records(self._of(row)), self.declared.trials, passed_over)

    def pass_over(self, row: int, outcomes: Sequence[Outcome]) -> bool:
        """Choose no more what the row's own runs diverged at, as if it had in the search; whether that changes its choice.

        Args:
            row: its place.
            outcomes: of its runs with all of train, at what is chosen.
        """
        settings = self.chosen(row)
        records = _records(outcomes)
        diverged = [one for one in outcomes if (record := records.get(one.key)) is not None and record.diverged]
        if settings is None or not diverged or any((row, settings) == passed[:2] for passed in self.passed_over):
            return False
        self.passed_over += [(row, settings, one) for one in diverged]
        return self.chosen(row) != settings

    @property
    def runs(self) -> list[Outcome]:
        """All that the choices rest on."""
        return [*self.outcomes.values(), *(outcome for *_, outcome in self.passed_over)]

    def file(self, names: Mapping[int, str]) -> Tuning:
        """What study.json keeps of it; ``names`` are those of the rows that the table has, by place."""
        trials, chosen = {}, {}
        for row, name in names.items():
            if any(self._of(row)):
                trials[name] = [_trial(settings, self._outcome(row, settings)) for settings in self.tried(row)]
            if (settings := self.chosen(row)) is not None:
                chosen[name] = settings
        passed_over: dict[str, list[Trial]] = {}
        for row, settings, outcome in self.passed_over:
            if row in names:
                passed_over.setdefault(names[row], []).append(_trial(settings, outcome))
        return Tuning(declared=self.declared, grid=self.grid, trials=trials, chosen=chosen, passed_over=passed_over)

    def _launch(self, wanted: Sequence[Point], more: Sequence[str] = (), floors: Sequence[Sequence[float]] = ()) -> Stages:
        """Run settings that rows try, and learn how that ended; ``floors`` are those of every row."""
        if wanted:
            ended = yield [[*self.job(row, settings, floors[row] if floors else None), *more] for row, settings in wanted]
            self.outcomes |= dict(zip(starmap(named, wanted), ended, strict=True))

    def _points(self) -> list[Point]:
        # rows take turns: those of one row may share a backbone, for which all but the first would wait
        return [(row, settings) for settings in points(self.grid) for row in range(len(self.rows))]

    def _of(self, row: int) -> Iterable[Outcome]:
        return [outcome for (number, _), outcome in self.outcomes.items() if number == row]

    def _outcome(self, row: int, settings: dict[str, Value]) -> Outcome | None:
        return self.outcomes.get(named(row, settings))

    def _widen(self) -> bool:
        """Add a value at each end where a row's best lies; whether there was one to add."""
        before = {key: [*values] for key, values in self.grid.items()}
        for row in range(len(self.rows)):
            for key, side in ends(before, self.chosen(row) or dict.fromkeys(before)).items():
                further = beyond(before[key], side)
                if further not in self.grid[key] and self._is_legal(key, further):
                    self.grid[key].append(further)
        return self.grid != before

    def _is_legal(self, key: str, value: Value) -> bool:
        try:
            self._describe([*self.rows[0], *as_overrides({key: value})])
        except ConfigError:
            return False
        return True

    def _resolve(self, place: str, key: str, values: Sequence[Value]) -> list[Value]:
        rows, (parent, _, leaf) = [to_plain(self._describe(row)) for row in self.rows], key.rpartition(".")
        beside = [at(row, parent) if parent else row for row in rows]
        if (
            "/" not in key
            and not key.startswith("+")
            and all(isinstance(one, dict) and one and leaf not in one for one in beside)
        ):
            raise ConfigError(f"study.tune.{place}.{key}: there is no such key. {nearest_key(leaf, beside[0], parent)}")
        usual = [at(row, key.lstrip("+")) for row in rows]
        try:
            found = [[resolved(value, one) for value in values] for one in usual]
        except ValueError as error:
            raise ConfigError(f"study.tune.{place}.{key}: {error}. Give the values as they are.") from error
        if any(one != found[0] for one in found):
            raise ConfigError(f"study.tune.{place}.{key}: rows differ in what {values} multiply. Give the values.")
        return [*{as_typed(value): value for value in found[0]}.values()]  # True is no 1


def check_free(keys: Iterable[str]) -> None:
    """Refuse to search what a run of the search sets itself, or what no record names as it was typed.

    Raises:
        ConfigError: naming the key.
    """
    keys = [*keys]
    for key in keys:
        if key.startswith("~"):
            raise ConfigError(f"study.tune: {key} takes a key away, and there is nothing to search. Name the key alone.")
        if len(same := [one for one in keys if overridden_key(one) == overridden_key(key)]) > 1:
            raise ConfigError(f"study.tune: {' and '.join(same)} are one key. Name it once.")
        if _ITS_OWN.fullmatch(overridden_key(key)):
            raise ConfigError(f"study.tune: {key} cannot be searched: a search's runs have a length and a seed of their own.")
        if "@" in key:
            raise ConfigError(f"study.tune: {key} is a group, and its options have settings of their own: search one of those.")


_ITS_OWN = re.compile(r"recipe\.(epochs|val_every)|recipe\.schedule\.\w+_steps|stop\..+|seed|held_out\..+")


def overridden_key(override: str) -> str:
    """``recipe.lr`` of ``++recipe.lr=0.1``."""
    return override.partition("=")[0].lstrip("+~")


def named(row: int, settings: Mapping[str, Value]) -> tuple[int, str]:
    """What tells runs of a search apart: a row's place and its settings as they are typed."""
    return row, " ".join(as_overrides(settings))


def as_overrides(settings: Mapping[str, Any]) -> Job:
    """Settings as a user types them."""
    return [f"{key}={as_typed(value)}" for key, value in settings.items()]


def _trial(settings: dict[str, Value], outcome: Outcome | None) -> Trial:
    return Trial(settings=settings, key=(outcome.key or None) if outcome else None, failed=failed_by_settings(outcome))


def failed_by_settings(outcome: Outcome | None) -> bool:
    """Whether a run of a search ended as one that no later start tries again, see `exfuse.store.tuning.is_verdict`."""
    return outcome is not None and outcome.status in (FAILED, FAILED_BEFORE) and is_verdict(outcome.record())


def _records(outcomes: Iterable[Outcome]) -> dict[str, Record | None]:
    return {one.key: one.record() for one in outcomes if one.key}
