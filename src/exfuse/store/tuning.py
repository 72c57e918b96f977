"""The search for a row's best settings on a part of train, as study.json keeps it: what was tried, which runs, what won."""

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import median
from typing import Any, Literal

import msgspec

from exfuse.limits import NonNegative, Part, Positive, PositiveShare, Seed
from exfuse.store.record import FAILED, Record

FOLDER = "search"  # beside a study's records: those of its search, without counts, of which nothing is made
_BEFORE_PRUNING = 5  # runs; Optuna's own
Value = float | int | str | bool | None
Settings = Mapping[str, Value]  # one point of a grid, by override key


class Space(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers between two ends, which are among them: whole ones if both ends are; by their logarithms with ``log``.

    An end may be given as a multiple, see `DeclaredTune`.
    """

    low: int | float | str
    high: int | float | str
    log: bool = False


class DeclaredTune(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``tune:`` of a study as conf/study declares it.

    Attributes:
        search: ``grid``, or ``optuna`` to let Optuna ask for each run's settings in the light of those before.
        grid: the values that every row tries, by override key; ``0.3x`` is 0.3 times what the row's recipe says. Of several
            keys every combination is tried. Optuna has ``space`` for it.
        space: what Optuna asks for by override key: a list to choose from, or `Space`.
        trials: how many Optuna asks for in each row.
        at_once: of these, in each row before it is told how they ended.
        prune: whether Optuna's are given up that are worse than the median of finished ones at a quarter, half or three
            quarters of their epochs.
        held_out: the share of train, drawn by group, that the search is scored on.
        epochs: the share of the recipe's epochs that a run of the search takes.
        seed: of the search's runs and of the draw; none of the study's.
        widen: how often at most the grid is widened where a row's best lies at its end.
    """

    grid: dict[str, list[Value]] = {}
    search: Literal["grid", "optuna"] = "grid"
    space: dict[str, Space | list[Value]] = {}
    trials: Positive | None = None
    at_once: Positive = 4
    prune: bool = False
    held_out: Part = 0.2
    epochs: PositiveShare = 0.3
    seed: Seed = 1000
    widen: NonNegative = 2


class Trial(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of a search.

    Attributes:
        settings: the point of the grid.
        key: of the run; None where it could not even be planned.
        failed: whether it failed by its settings, which counts as worse than any score.
    """

    settings: dict[str, Value]
    key: str | None
    failed: bool = False


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """A study's search.

    Attributes:
        declared: what was asked for, its values resolved.
        grid: the values that were tried in the end, by override key: the declared ones, then those by which it was widened;
            empty for Optuna's.
        trials: by row, in the order in which the grid lists them, or Optuna asked for them.
        chosen: the best settings by row; a row whose search is not finished has none.
        passed_over: by row, runs with all of train that diverged at what the search had found best: its row then takes what
            was next best.
    """

    declared: DeclaredTune
    grid: dict[str, list[Value]]
    trials: dict[str, list[Trial]]
    chosen: dict[str, dict[str, Value]]
    passed_over: dict[str, list[Trial]] = {}

    @property
    def keys(self) -> list[str]:
        """What was searched."""
        return [*(self.grid or self.declared.space)]

    def at_end(self, row: str) -> dict[str, int]:
        """See `ends`, of the row's best."""
        return ends(self.grid, self.chosen[row]) if row in self.chosen else {}


def points(grid: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Every combination of the values, the last key's fastest."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def best(
    trials: Sequence[Trial],
    records: Mapping[str, Record | None],
    planned: int | None = None,
    passed_over: Sequence[Settings] = (),
) -> dict[str, Value] | None:
    """The settings of the highest mIoU; of equal ones those that the grid lists first. None if a run has yet to end.

    A run that diverged counts as worse than any that did not, one that failed or was given up as worst of all; None if that
    holds for all, or if there are fewer trials than ``planned``. Settings that are ``passed_over`` are taken where all others
    diverged.
    """
    if len(trials) < (planned or 0):
        return None
    ranks: list[tuple[int, float]] = []
    for trial in trials:
        record = records.get(trial.key or "")
        if record is not None and record.scored is not None and record.done:
            sound = 0 if is_pruned(record) else 1 if record.diverged else 2 if trial.settings in passed_over else 3
            ranks.append((sound, record.scores.miou))
        elif trial.failed:
            ranks.append((0, 0.0))
        else:
            return None
    top = max(ranks, default=(0, 0.0))
    return trials[ranks.index(top)].settings if top[0] else None


def is_verdict(record: Record | None) -> bool:
    """Whether a run of a search failed by its settings: it diverged. Whatever else made it fail says nothing of them."""
    return record is not None and record.status == FAILED and record.diverged


def is_pruned(record: Record) -> bool:
    """Whether a run of a search was given up because it did worse than others did."""
    floors = record.setting("stop.floors") or ()
    return any(max(record.looks[: number + 1]) < floor for number, (floor, _) in enumerate(zip(floors, record.looks)))  # noqa: B905


def floors(finished: Sequence[Sequence[float]]) -> list[float]:
    """Below which mIoU a run is given up, by validation: the median over finished runs of their best until then.

    Optuna's MedianPruner, whose decisions a run could not ask for; like that, it waits for a few finished ones.

    Args:
        finished: mIoU by validation, of runs that were not given up.
    """
    if len(finished) < _BEFORE_PRUNING:
        return []
    number = min(map(len, finished))
    return [round(median(max(looks[: place + 1]) for looks in finished), 6) for place in range(number)]


def ends(grid: Mapping[str, Sequence[Value]], settings: Settings) -> dict[str, int]:
    """Keys of which the settings take the largest (1) or smallest (-1) of several numbers."""
    found = {}
    for key, values in grid.items():
        numbers: list[Any] = sorted({value for value in values if _is_number(value)})
        if len(numbers) > 1 and len(numbers) == len(set(values)) and settings[key] in (numbers[0], numbers[-1]):
            found[key] = 1 if settings[key] == numbers[-1] else -1
    return found


def beyond(values: Sequence[Value], side: int) -> Value:
    """The number that goes on from a grid at one end, by the ratio of its last two, to two digits; by their distance if one is
    not positive."""
    numbers: list[Any] = sorted({value for value in values if _is_number(value)})
    last, before = (numbers[-1], numbers[-2]) if side > 0 else (numbers[0], numbers[1])
    further = last * last / before if numbers[0] > 0 else last + (last - before)
    return round(further) if all(isinstance(number, int) for number in numbers) else float(f"{further:.2g}")


def resolved(value: Value, usual: Any) -> Value:
    """A value of a declared grid, ``0.3x`` multiplied by the usual one, to two digits more than it has.

    Raises:
        ValueError: if there is no usual number to multiply.
    """
    if not (isinstance(value, str) and value.endswith("x")):
        return value
    try:
        factor = float(value[:-1])
    except ValueError:
        return value
    if not _is_number(usual):
        raise ValueError(f"{value} of {usual}, which is no number")
    return usual if factor == 1 else type(usual)(float(f"{factor * usual:.3g}"))


def _is_number(value: Any) -> Any:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
