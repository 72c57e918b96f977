"""The differences that a study's table shows: each row against the row that it builds on."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from exfuse.analysis.effects import FactorialEffects, factorial_effects
from exfuse.analysis.resampling import Interval, Resampled, Scored, TooFewLabelledError
from exfuse.analysis.sequential import adjusted_p
from exfuse.errors import UserError
from exfuse.store import variants
from exfuse.store.sequential import Rule
from exfuse.store.study import Run, Study, StudyRow

Scoring = Callable[[Run], Scored | None]  # what to compare of a finished run, image by image; None where it was not measured


@dataclass(frozen=True)
class Comparison:
    """A row's mIoU, or another mean IoU, minus that of the row it builds on.

    Attributes:
        interval: fractions; None where there is nothing to compare.
        reason: why there is no interval: "missing", "other images", "not measured" or "too few pixels".
        adjusted: p by Holm's method over all comparisons of the study; None without a p.
    """

    row: str
    base: str
    interval: Interval | None = None
    reason: str = ""
    adjusted: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.interval is not None and not self.interval.low <= 0 <= self.interval.high


def compare_rows(study: Study, scoring: Scoring = Run.counts) -> dict[str, Comparison]:
    """Every row that builds on another, by its name.

    All runs that were scored on the same images share one set of resamples.

    Args:
        study: with its records.
        scoring: what is compared, by default mIoU.

    Raises:
        UserError: if runs that were scored on the same images list them differently.
    """
    pairs = [(row, study.row(row.on)) for row in study.rows if row.on is not None]
    reasons = {row.name: _why_not(row, base, scoring) for row, base in pairs}
    taking_part = {one.name: one for row, base in pairs if not reasons[row.name] for one in (row, base)}
    by_images: dict[str, dict[str, StudyRow]] = {}
    for name, row in taking_part.items():
        by_images.setdefault(next(iter(_images(row))), {})[name] = row
    runs = len(study.done())
    resampled = {images: _resample(rows, resamples(runs), scoring) for images, rows in by_images.items()}
    found = {}
    for row, base in pairs:
        interval, reason = None, reasons[row.name]
        if not reason:
            drawn = resampled[next(iter(_images(row)))]
            interval = drawn.contrast({row.name: 1, base.name: -1}) if drawn else None
            reason = "" if interval else "too few pixels"
        found[row.name] = Comparison(row.name, base.name, interval, reason)
    tested = {name: one.interval.p_value for name, one in found.items() if one.interval}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    if study.sequential is not None:
        drawn_of = {row.name: resampled[next(iter(_images(row)))] for row, _ in pairs if row.name in tested}
        adjusted = _over_looks(study.sequential.rule, study, tested, drawn_of)
    return {name: replace(one, adjusted=adjusted.get(name)) for name, one in found.items()}


def _over_looks(
    rule: Rule, study: Study, tested: Collection[str], drawn: Mapping[str, "Resampled[str] | None"]
) -> dict[str, float]:
    """p of a sequential study's comparisons, over all looks that were taken and all comparisons; see `sequential`."""
    found = {}
    for name, base in rule.pairs:
        if name in tested and (resampled := drawn[name]) is not None and study.row(name).on == base:
            common = set(study.row(name).records) & set(study.row(base).records)
            prefix = list(itertools.takewhile(common.__contains__, rule.seeds))
            looks = range(rule.first, len(prefix) + 1)
            weights = {name: 1, base: -1}
            p_values = [resampled.contrast(weights, seeds=rule.seeds[:number]).p_value for number in looks]
            found[name] = adjusted_p(p_values, rule)
    return found


def _why_not(row: StudyRow, base: StudyRow, scoring: Scoring) -> str:
    if not set(row.records) & set(base.records):
        return "missing"
    if len(_images(row) | _images(base)) > 1:
        return "other images"
    runs = [one.runs[seed] for one in (row, base) for seed in one.records]
    return "not measured" if any(scoring(run) is None for run in runs) else ""


def _images(row: StudyRow) -> set[str]:
    """Manifests of the images on which a row's runs were scored; one, unless a study is mixed."""
    return {record.manifests["val"] for record in row.records.values()}


def _resample(rows: Mapping[str, StudyRow], number: int, scoring: Scoring) -> Resampled[str] | None:
    """None where the images hold too few labelled pixels to compare: of mIoU that is a mistake, of a part of them it may be."""
    _check_images(list(rows.values()))
    try:
        return Resampled({name: _cell(row, sorted(row.records), scoring) for name, row in rows.items()}, number)
    except TooFewLabelledError:
        if scoring is Run.counts:
            raise
        return None


def resamples(runs: int) -> int:
    """How many resamples a study of so many runs affords: 10,000 up to 200 runs, never less than 1,000."""
    return min(10_000, max(1_000, 2_000_000 // max(1, runs)))


def effects_of(study: Study) -> FactorialEffects | str:
    """Main effects, interactions and Shapley values of a factorial study, or why there are none.

    Only seeds that every combination has finished take part.
    """
    by_techniques: dict[frozenset[str], StudyRow] = {}
    baseline = variants.baseline() | {technique.name: technique.baseline for technique in study.techniques}
    for row in study.rows:
        used = frozenset(name for name in study.factors if row.options[name] != baseline[name])
        if used in by_techniques:
            return f"rows {by_techniques[used].name} and {row.name} are the same combination of {', '.join(study.factors)}"
        by_techniques[used] = row
    if len(by_techniques) < 2 ** len(study.factors):
        return f"the study has {len(by_techniques)} of the {2 ** len(study.factors)} combinations of {', '.join(study.factors)}"
    seeds = sorted(set.intersection(*(set(row.records) for row in study.rows)))
    if not seeds:
        return "no seed has finished in every combination"
    if len({record.manifests["val"] for _, _, record in study.done()}) > 1:
        return "the runs were scored on different images"
    _check_images(list(study.rows))
    cells = {used: {seed: row.runs[seed].counts() for seed in seeds} for used, row in by_techniques.items()}
    return factorial_effects(cells, study.factors, resamples(len(study.done())))


def _cell(row: StudyRow, seeds: list[int], scoring: Scoring) -> dict[int, Scored]:
    scored = {seed: scoring(row.runs[seed]) for seed in seeds}
    return {seed: found for seed, found in scored.items() if found is not None}


def _check_images(rows: list[StudyRow]) -> None:
    """Pairing needs the same images at the same places."""
    runs = [run for row in rows for run in row.runs.values() if run.done]
    expected = runs[0].image_ids()
    for run in runs[1:]:
        if run.image_ids() != expected:
            raise UserError(
                f"{run.folder.path / 'confusion.npz'} counts other images, or in another order, than "
                f"{runs[0].folder.path / 'confusion.npz'}: they cannot be compared image by image. Train one of them anew."
            )


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
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
