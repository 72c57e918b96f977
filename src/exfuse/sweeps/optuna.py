"""A study's search by Optuna: every row tries the same number of settings, each wave in the light of how earlier ones ended.

Optuna's memory is made anew at every start from the runs that are there: with the same seed, the same answers to the same ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from exfuse.errors import ConfigError, needing
from exfuse.store.outcome import FAILED_BEFORE, GOOD
from exfuse.store.record import Record
from exfuse.store.tuning import DeclaredTune, Space, Value, floors, is_pruned
from exfuse.sweeps.tuning import Job, Search, Stages, as_overrides, check_free, failed_by_settings, named, overridden_key

_DIGITS = 3  # of a number that is asked for


def searching(tune: DeclaredTune) -> type[Search]:
    """What searches as a study declares."""
    return OptunaSearch if tune.search == "optuna" else Search


class OptunaSearch(Search):
    """See `Search`; of one row Optuna's TPE sampler, seeded alike for all rows, knows that row's runs alone.

    Raises:
        ConfigError: if Optuna is not there, or the space cannot be searched.
    """

    def _resolved(self, tune: DeclaredTune) -> DeclaredTune:
        with needing("search", "study.tune.search=optuna"):
            import optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        check_free(tune.space)
        if tune.trials is None:
            raise ConfigError("study.tune.trials is not set: how many settings Optuna tries in every row.")
        space = {
            key: self._checked(key, values) for key, values in tune.space.items() if overridden_key(key) not in self.settled
        }
        if not tune.space:
            example = "{recipe.lr: {low: 0.1x, high: 10x, log: true}}"
            raise ConfigError(f"study.tune.space is empty: name what Optuna tries, such as {example}.")
        sampler = optuna.samplers.TPESampler
        self._distributions = {key: _distribution(values) for key, values in space.items()}
        self._studies = [optuna.create_study(direction="maximize", sampler=sampler(seed=tune.seed)) for _ in self.rows]
        self._asked: list[list[dict[str, Value]]] = [[] for _ in self.rows]
        return replace(tune, grid={}, space=space)

    @property
    def keys(self) -> list[str]:
        return [*self._distributions]

    def asks(self) -> str:
        return f"{self.declared.trials} values of {', '.join(self.keys)} that Optuna asks for"

    def tried(self, row: int) -> list[dict[str, Value]]:
        return self._asked[row]

    def jobs(self) -> list[Job]:
        """As many runs as there will be, each with a value that may be asked for."""
        first = {key: values[0] if isinstance(values, list) else values.low for key, values in self.declared.space.items()}
        return [self.job(row, first) for row in range(len(self.rows)) for _ in range(self.declared.trials or 0)]

    def stages(self) -> Stages:
        """Wave by wave, all rows together; a row of which a run did not end goes on at the next start."""
        going = [*range(len(self.rows))]
        planned = self.declared.trials or 0
        for begun in range(0, planned, self.declared.at_once):
            number = min(self.declared.at_once, planned - begun)
            asked = {row: [self._studies[row].ask(self._distributions) for _ in range(number)] for row in going}
            for row, trials in asked.items():
                self._asked[row] += [self._rounded(trial.params) for trial in trials]
            new = {row: self._asked[row][begun:] for row in going}
            points = {named(row, settings): (row, settings) for row in going for settings in new[row]}
            bounds = [floors([record.looks for record in self._finished(row)]) for row in range(len(self.rows))]
            yield from self._launch([point for name, point in points.items() if name not in self.outcomes], floors=bounds)
            hopeless = {row for row in going if all(one.status == FAILED_BEFORE for one in self._of(row))}
            yield from self._launch([point for point in points.values() if point[0] in hopeless], ["overwrite=true"], bounds)
            going = [row for row in going if all(self._tell(row, *pair) for pair in zip(asked[row], new[row], strict=True))]

    def _tell(self, row: int, trial: Any, settings: dict[str, Value]) -> bool:
        """Tell Optuna how a run ended; whether it did."""
        from optuna.trial import TrialState

        outcome = self.outcomes[named(row, settings)]
        record = outcome.record()
        if outcome.status in GOOD and record is not None and record.scored is not None:
            if is_pruned(record):
                for step, score in enumerate(record.looks):
                    trial.report(score, step)
                self._studies[row].tell(trial, state=TrialState.PRUNED)
            else:
                self._studies[row].tell(trial, 0.0 if record.diverged else record.scores.miou)
        elif failed_by_settings(outcome):
            self._studies[row].tell(trial, 0.0)  # as bad as can be: it asks for nothing near
        else:
            return False
        return True

    def _rounded(self, asked: Mapping[str, Value]) -> dict[str, Value]:
        """Numbers as people write them, where that is in range: the key of a run, and what is typed, hold them so."""
        return {key: _rounded(asked[key], self.declared.space[key]) for key in self.keys}

    def _finished(self, row: int) -> list[Record]:
        """Records of a row's runs that went through to their end."""
        records = [outcome.record() for outcome in self._of(row) if outcome.status in GOOD]
        return [one for one in records if one and one.scored and not one.diverged and not is_pruned(one)]

    def _checked(self, key: str, values: Space | list[Value]) -> Space | list[Value]:
        """What may be asked for, multiples as numbers; each end, or value, is one that a run can have."""
        given = values if isinstance(values, list) else [values.low, values.high]
        found = self._resolve("space", key, given) if given else []
        if not found or (isinstance(values, Space) and not _rise(found, values.log)):
            raise ConfigError(
                f"study.tune.space: {key} needs a list of values, or numbers from low to a larger high, above 0 with log: true."
            )
        for value in found:
            self._describe([*self.rows[0], *as_overrides({key: value})])
        return found if isinstance(values, list) else replace(values, low=found[0], high=found[1])


def _rise(ends: Sequence[Any], log: bool) -> bool:
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends)
    return numbers and len(ends) == 2 and ends[0] < ends[1] and not (log and ends[0] <= 0)


def _distribution(values: Space | list[Value]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, list):
        return CategoricalDistribution(values)
    low, high = values.low, values.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=values.log)
    return FloatDistribution(float(low), float(high), log=values.log)


def _rounded(value: Value, space: Space | list[Value]) -> Value:
    if isinstance(space, list) or not isinstance(value, float):
        return value
    rounded = float(f"{value:.{_DIGITS}g}")
    return rounded if float(space.low) <= rounded <= float(space.high) else value
