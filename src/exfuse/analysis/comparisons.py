"""The differences that a study's table shows and its claims speak of: of a row to the one it builds on, or to several."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from exfuse.analysis.effects import FactorialEffects, factorial_effects
from exfuse.analysis.resampling import Additive, Interval, OneGroupError, Resampled, TooFewLabelledError
from exfuse.analysis.sequential import sequential_p
from exfuse.errors import UserError
from exfuse.store.sequential import Rule
from exfuse.store.study import Run, Study, StudyRow
from exfuse.store.study_file import BELOW, SETTINGS, Claim

Scoring = Callable[[Run], Additive | None]  # what to compare of a finished run, image by image; None where it was not measured
ALPHA = 0.05  # the chance, for a whole table, of calling a difference a finding where there is none


@dataclass(frozen=True)
class Comparison:
    """A row's score, or another mean IoU, minus that of the row it builds on.

    Attributes:
        base: the other row; of a claim about several, the one that comes nearest to refuting it.
        interval: fractions; None where there is nothing to compare.
        reason: why there is no interval: "missing", "other images", "not measured", "too few pixels" or "one group" of images,
            which says nothing of others.
        adjusted: p by Holm's method over all comparisons and claims of the study; None without a p.
    """

    row: str
    base: str
    interval: Interval | None = None
    reason: str = ""
    adjusted: float | None = None

    @property
    def found(self) -> bool:
        """Whether the difference is a finding: told from none by the adjusted p."""
        return self.adjusted is not None and self.adjusted < ALPHA


class Compared(NamedTuple):
    """All comparisons of a study: of rows with what they build on, by the row's name, and of its claims, in their order."""

    rows: dict[str, Comparison]
    claims: list[Comparison]


def compare(study: Study, scoring: Scoring = Run.additive) -> Compared:
    """Every row that builds on another, and every claim.

    All runs that were scored on the same images share one set of resamples. p is adjusted over rows and claims together.

    Args:
        study: with its records.
        scoring: what is compared, by default the study's score.

    Raises:
        UserError: if runs that were scored on the same images list them differently.
    """
    pairs = [(row, study.row(row.on)) for row in study.rows if row.on is not None]
    claimed = [[(study.row(claim.row), study.row(other)) for other in claim.of] for claim in study.claims]
    drawn = _Drawn(study, scoring, [*pairs, *(pair for among in claimed for pair in among)])
    rows = [drawn.compare(*pair) for pair in pairs]
    claims = [_hardest(claim, drawn, among) for claim, among in zip(study.claims, claimed, strict=True)]
    found = adjust([*rows, *claims])
    if study.sequential is not None:
        found = [_over_looks(one, study.sequential.rule, drawn) for one in found]
    return Compared({one.row: one for one in found[: len(rows)]}, found[len(rows) :])


def compare_rows(study: Study, scoring: Scoring = Run.additive) -> dict[str, Comparison]:
    """`compare`, the rows alone, by name."""
    return compare(study, scoring).rows


def compare_with_each(study: Study) -> dict[str, dict[str, Comparison]]:
    """By the name of each row every other row with it, by name, for readers who look beyond what the study asked.

    p is adjusted over the comparisons with one row; none is a finding of the study, whose questions were others.
    """
    drawn = _Drawn(study, Run.additive, [*itertools.permutations(study.rows, 2)])
    return {
        base.name: {one.row: one for one in adjust([drawn.compare(row, base) for row in study.rows if row.name != base.name])}
        for base in study.rows
    }


def adjust(found: Sequence[Comparison]) -> list[Comparison]:
    """The same with p adjusted by Holm's method over all that have one."""
    tested = iter(holm([one.interval.p_value for one in found if one.interval]))
    return [replace(one, adjusted=next(tested)) if one.interval else one for one in found]


def _over_looks(one: Comparison, rule: Rule, drawn: "_Drawn") -> Comparison:
    """p of a sequential study's comparison, over all looks that were taken and all comparisons; nothing else of it has one."""
    if one.interval is None or (one.row, one.base) not in rule.pairs or drawn.study.row(one.row).on != one.base:
        return replace(one, adjusted=None)
    row, base = drawn.study.row(one.row), drawn.study.row(one.base)
    prefix = list(itertools.takewhile((set(row.records) & set(base.records)).__contains__, rule.seeds))
    looks = [rule.seeds[:number] for number in range(rule.first, len(prefix) + 1)]
    intervals = [drawn.compare(row, base, seeds=seeds).interval for seeds in looks]
    return replace(one, adjusted=sequential_p([found.p_value for found in intervals if found], rule))


def _hardest(claim: Claim, drawn: "_Drawn", among: Sequence[tuple[StudyRow, StudyRow]]) -> Comparison:
    """The claim that a row lies below (above) each of others: its difference to the lowest (highest) of them.

    It holds only if all differences have its sign, so p is the largest of theirs (an intersection-union test, Berger 1982), or
    1 if a sign is wrong. The interval is that of the extreme difference; its end that is away from zero allows for their
    number, since any of them may be the extreme one.
    """
    found = [drawn.compare(*pair) for pair in among]
    if without := [one for one in found if one.interval is None]:
        return without[0]
    sign = 1 if claim.lies == BELOW else -1
    strict = [drawn.compare(*pair, level=1 - ALPHA / len(among)) for pair in among]
    intervals, wide = ([one.interval for one in many if one.interval] for many in (found, strict))
    hardest = max(range(len(found)), key=lambda place: sign * intervals[place].estimate)
    near, far = ("low", "high") if sign > 0 else ("high", "low")
    ends = {
        far: sign * max(sign * getattr(one, far) for one in intervals),
        near: sign * max(sign * getattr(one, near) for one in wide),
    }
    p_value = max(one.p_value if sign * one.estimate < 0 else 1.0 for one in intervals)
    return replace(found[hardest], interval=intervals[hardest]._replace(p_value=p_value, **ends))


class _Drawn:
    """The resamples of a study's runs, made when first needed, one set for all runs that were scored on the same images."""

    def __init__(self, study: Study, scoring: Scoring, pairs: Sequence[tuple[StudyRow, StudyRow]]) -> None:
        self.study, self.scoring = study, scoring
        self.reasons = {(row.name, base.name): why_not(row, base, scoring) for row, base in pairs}
        self.rows: dict[str, dict[str, StudyRow]] = {}
        for pair in pairs:
            for row in () if self.reasons[pair[0].name, pair[1].name] else pair:
                self.rows.setdefault(next(iter(scored_on(row))), {})[row.name] = row
        self.resampled: dict[str, Resampled[str]] = {}

    def compare(
        self, row: StudyRow, base: StudyRow, level: float = 1 - ALPHA, seeds: Sequence[int] | None = None
    ) -> Comparison:
        reason = self.reasons[row.name, base.name]
        if not reason:
            try:
                interval = self._of(row).contrast({row.name: 1, base.name: -1}, level, seeds=seeds)
                return Comparison(row.name, base.name, interval)
            except OneGroupError:
                reason = "one group"
            except TooFewLabelledError:  # of mIoU that is a mistake, of a part of the pixels it may be
                if self.scoring is Run.additive:
                    raise
                reason = "too few pixels"
        return Comparison(row.name, base.name, reason=reason)

    def _of(self, row: StudyRow) -> Resampled[str]:
        images = next(iter(scored_on(row)))
        if images not in self.resampled:
            rows = self.rows[images]
            first = _check_images(list(rows.values()))
            cells = {name: _cell(one, sorted(one.records), self.scoring) for name, one in rows.items()}
            number = resamples(len(self.study.done()))
            self.resampled[images] = Resampled(cells, number, grouping=self.study.grouping(first))
        return self.resampled[images]


def why_not(row: StudyRow, base: StudyRow, scoring: Callable[[Run], object]) -> str:
    """Why two rows cannot be compared by what ``scoring`` takes of a run, None where nothing was measured; else nothing."""
    if not set(row.records) & set(base.records):
        return "missing"
    if len(scored_on(row) | scored_on(base)) > 1:
        return "other images"
    runs = [one.runs[seed] for one in (row, base) for seed in one.records]
    return "not measured" if any(scoring(run) is None for run in runs) else ""


def scored_on(row: StudyRow) -> set[str]:
    """Manifests of the images on which a row's runs were scored; one, unless a study is mixed."""
    return {record.manifests["val"] for record in row.records.values()}


def resamples(runs: int) -> int:
    """How many resamples a study of so many runs affords: 10,000 up to 200 runs, never less than 1,000."""
    return min(10_000, max(1_000, 2_000_000 // max(1, runs)))


def effects_of(study: Study) -> FactorialEffects | str:
    """Main effects, interactions and Shapley values of a factorial study, or why there are none.

    Only seeds that every combination has finished take part; a sequential study has none, see `exfuse.analysis.sequential`.
    """
    if study.sequential:
        return "the seeds of a sequential study were chosen by looking at its rows' differences"
    asked = ", ".join(study.factors or ())
    factors = [name if study.imported else name.upper() for name in study.factors or ()]
    by_techniques: dict[frozenset[str], StudyRow] = {}
    for row in study.rows:
        used = frozenset(name for name, is_on in zip(factors, _switched(row, study), strict=True) if is_on)
        if used in by_techniques:
            return f"rows {by_techniques[used].name} and {row.name} are the same combination of {asked}"
        by_techniques[used] = row
    if len(by_techniques) < 2 ** len(factors):
        return f"the study has {len(by_techniques)} of the {2 ** len(factors)} combinations of {asked}"
    seeds = sorted(set.intersection(*(set(row.records) for row in study.rows)))
    if not seeds:
        return "no seed has finished in every combination"
    if len({record.manifests["val"] for _, _, record in study.done()}) > 1:
        return "the runs were scored on different images"
    first = _check_images(list(study.rows))
    cells = {used: {seed: row.runs[seed].additive() for seed in seeds} for used, row in by_techniques.items()}
    try:
        return factorial_effects(cells, factors, resamples(len(study.done())), grouping=study.grouping(first))
    except OneGroupError:
        return "all images are one group and there is one seed"


def _switched(row: StudyRow, study: Study) -> list[bool]:
    """Which of the study's factors a row has on; a setting of other code is off as in the first row that builds on none."""
    if study.imported:
        base = next((one for one in study.rows if one.on is None), study.rows[0])
        return [_setting(row, name) != _setting(base, name) for name in study.factors or ()]
    usual = {technique.name: technique.baseline for technique in study.techniques}
    return [row.options[name] != usual[name] for name in study.factors or ()]


def _setting(row: StudyRow, name: str) -> object:
    return next((record.setting(f"{SETTINGS}.{name}") for record in row.records.values()), None)


def _cell(row: StudyRow, seeds: list[int], scoring: Scoring) -> dict[int, Additive]:
    scored = {seed: scoring(row.runs[seed]) for seed in seeds}
    return {seed: found for seed, found in scored.items() if found is not None}


def _check_images(rows: list[StudyRow]) -> Run:
    """A run of them, after checking that all have the same images at the same places, as pairing needs."""
    runs = [run for row in rows for run in row.runs.values() if run.done]
    expected = runs[0].image_ids()
    for run in runs[1:]:
        if run.image_ids() != expected:
            raise UserError(
                f"{_counted(run)} counts other images, or in another order, than "
                f"{_counted(runs[0])}: they cannot be compared image by image. Train one of them anew."
            )
    return runs[0]


def _counted(run: Run) -> Path:
    return run.folder.path / run.folder.counted_in(run.record)[0]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values by Holm's step-down method (1979), in the order given.

    Calling those below 0.05 significant finds a difference where there is none, anywhere in the family, with a chance of
    5 % at most, however the tests depend on each other. The k-th smallest of m values is multiplied by m - k + 1, and is never
    below the adjusted value of a smaller one, nor above 1.

    Raises:
        ValueError: if a p-value is not in [0, 1].
    """
    if wrong := [p for p in p_values if not 0 <= p <= 1]:
        raise ValueError(f"p-values lie in [0, 1], got {wrong[0]}")
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    multiplied = (min(1.0, (len(p_values) - rank) * p_values[place]) for rank, place in enumerate(order))
    adjusted = dict(zip(order, itertools.accumulate(multiplied, max), strict=True))
    return [adjusted[place] for place in range(len(p_values))]
