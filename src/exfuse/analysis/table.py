"""From a study to its tables: the rows with their differences and costs, and the effects of a factorial study."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from exfuse.analysis import cells
from exfuse.analysis.comparisons import ALPHA, Compared, Comparison, adjust, compare, compare_rows, effects_of, holm
from exfuse.analysis.document import TIMES, Cell, Column, Footnote, Table, Value
from exfuse.analysis.effects import FactorialEffects
from exfuse.analysis.footnotes.footnotes import footnotes
from exfuse.analysis.footnotes.intervals import IMAGES_ONLY
from exfuse.analysis.resampling import Interval
from exfuse.errors import plural
from exfuse.store.costs import COSTS
from exfuse.store.metric import Metric
from exfuse.store.study import Study, StudyRow
from exfuse.store.study_file import setting_name
from exfuse.store.variants import Technique


def build_table(study: Study, compared: Compared | None = None) -> Table:
    """The study's table: one line a row, see `columns` for what it shows.

    Args:
        study: with its records.
        compared: of `compare`, if that is known already.

    Raises:
        UserError: if a run's confusion counts cannot be used.
    """
    found = compare(study) if compared is None else compared
    seeds = sorted({seed for row in study.rows for seed in row.runs})
    chosen = columns(study)
    parts = compare_parts(study)
    rows = [_row(row, study, found.rows, seeds, chosen, parts) for row in study.rows]
    return Table(
        name=study.name,
        title=study.title,
        columns=chosen,
        rows=rows,
        footnotes=[*_shared(study), *footnotes(study, found, rows)],
        notes=[study.question],
        command=study.command,
    )


def columns(study: Study) -> list[Column]:
    """Only columns that say something: ticks where techniques vary, the paper's numbers where the study has some."""
    found = [Column("variant", "variant", "name of the row", "left")]
    for technique in study.techniques:
        if _varies(study, technique):
            options = "the paper's option or the one named" if technique.paper else "the option named"
            explanation = f"{technique.title}, {cells.TICK}: {options}"
            found.append(Column(technique.name, technique.short, explanation, "centre", "settings"))
    if len({row.decoder for row in study.rows}) > 1:
        found.append(Column("decoder", "decoder", "which levels of the encoder it reads, or which head", "left", "settings"))
    for setting in study.varies:
        name = setting_name(setting)
        found.append(Column(setting, name.rpartition(".")[2].replace("_", " "), f"{name}, varied on purpose", group="settings"))
    for key in study.tuning.keys if study.tuning else ():
        name = key.lstrip("+").rpartition(".")[2].replace("_", " ")
        found.append(Column(key, name, f"{key}, the row's best in a search on a part of train", group="settings"))
    metric = study.metric
    meaning = "mean intersection over union" if study.counted else f"{metric.name}{metric.lower}, mean over the images"
    found.append(Column(metric.key, metric.header, f"{meaning}, mean ± standard deviation over seeds"))
    found.append(Column("seeds", "seeds", "finished runs; the rest is named", "left"))
    if any(row.on for row in study.rows):
        bold = f"bold: p below {ALPHA}"
        above = f"{metric.points} above the row it builds on{metric.lower}, 95 % interval; {bold}"
        found.append(Column("difference", f"Δ {metric.name} [95 %]", above, "left"))
        found.append(Column("p", "p", f"of the difference, adjusted for the number of comparisons; {bold}"))
    found += [Column(measure.key, measure.header, measure.explanation, "left", "parts") for measure in cells.measures(study)]
    if study.paper is not None and any(row.paper is not None for row in study.rows):
        found.append(Column("paper", "paper", "the paper's mIoU in %, and how far it can be trusted", group="paper"))
        found.append(Column("difference_to_paper", "Δ paper", "our mIoU minus the paper's, in points", group="paper"))
    if any(record.stopped for _, _, record in study.done()):
        found.append(Column("epochs", "epochs", "at which its trainings stopped, of the recipe's", "left"))
    if not study.imported:
        worst = "highest mean loss of an epoch after warm-up over that of guessing"
        if any(record.health and record.health.correlations for _, _, record in study.done()):
            worst += ", and what enters the decoder keeps of what left the encoder (r)"
        found.append(Column("health", "health", f"of the worst run: {worst}", "left", "health"))
    costs = [cost for cost in COSTS if not study.imported or any(row.cost(cost.key) is not None for row in study.rows)]
    return found + [Column(cost.key, cost.header, cost.explanation, group="cost") for cost in costs]


Parts = Mapping[str, Mapping[str, Comparison]]  # by measure and row


def compare_parts(study: Study) -> dict[str, dict[str, Comparison]]:
    """What `compare_rows` finds by each measure, such as near borders.

    p is adjusted over all of these columns together; a sequential study, whose seeds were chosen by its scores, has none.
    """
    found = [(measure.key, one) for measure in cells.measures(study) for one in compare_rows(study, measure.areas).values()]
    parts: dict[str, dict[str, Comparison]] = {measure.key: {} for measure in cells.measures(study)}
    compared = [one for _, one in found]
    adjusted = [replace(one, adjusted=None) for one in compared] if study.sequential else adjust(compared)
    for (key, _), one in zip(found, adjusted, strict=True):
        parts[key][one.row] = one
    return parts


def build_effects_table(study: Study, effects: FactorialEffects | str | None = None) -> Table | None:
    """Main effects, pairwise interactions and Shapley values of a factorial study; None where it has no factors."""
    if not study.factors:
        return None
    found = effects_of(study) if effects is None else effects
    metric = study.metric
    what, named = ("setting", study.factors) if study.imported else ("technique", [name.upper() for name in study.factors])
    names = ", ".join(named)
    title = f"{study.title}: effects of {names}"
    chosen = [
        Column("kind", "effect", "what kind of effect", "left"),
        Column("of", "of", f"{what}s", "left"),
        Column(
            "effect",
            f"{metric.points} [95 %]",
            f"{metric.points} of {metric.name}, with the 95 % interval; bold: p below {ALPHA}",
            "left",
        ),
        Column("p", "p", "adjusted for the number of effects"),
    ]
    if isinstance(found, str):
        return Table(f"{study.name}_effects", title, chosen, [], [Footnote(f"No effects: {found}.")])
    rows = [_effect_row(effect, metric) for effect in list_effects(found)]
    notes = [
        f"Main effect: {metric.name} with the {what} minus without, averaged over all combinations of the others.",
        f"Interaction: how much the effect of one {what} is larger where the other is used too.",
        f"Shapley value: the {what}'s gain averaged over all orders of adding {what}s; together they are the total.",
        f"Intervals of 95 %, each for itself, from the seeds that all combinations have: {found.total.seeds}. p: two-sided, "
        f"adjusted by Holm's method over the table's {plural(len(rows), 'effect')}; bold: below {ALPHA}, a finding.",
    ]
    if found.total.seeds == 1:
        notes.append(f"Every {IMAGES_ONLY}")
    if study.deviations:
        notes.append("The runs were not all under the same settings: see the first table.")
    name = f"{study.name}_effects"
    return Table(name, title, chosen, rows, [Footnote(note) for note in notes], command=study.command, brief=notes[3:])


class Effect(NamedTuple):
    """An effect as the table lists it; ``adjusted`` is its p by Holm's method over all of the table."""

    kind: str
    techniques: str
    interval: Interval
    adjusted: float

    @property
    def found(self) -> bool:
        """Whether it is a finding."""
        return self.adjusted < ALPHA


def list_effects(effects: FactorialEffects) -> list[Effect]:
    """Every effect, in the order of the table."""
    found = [
        *(("main", name, interval) for name, interval in effects.main.items()),
        *(("interaction", f" {TIMES} ".join(pair), interval) for pair, interval in effects.interactions.items()),
        *(("Shapley", name, interval) for name, interval in effects.shapley.items()),
        ("total", " + ".join(effects.main), effects.total),
    ]
    adjusted = holm([interval.p_value for _, _, interval in found])
    return [Effect(*one, p_value) for one, p_value in zip(found, adjusted, strict=True)]


def _effect_row(effect: Effect, metric: Metric) -> dict[str, Cell]:
    interval = effect.interval
    values: dict[str, Value] = {
        "effect": metric.scale * interval.estimate,
        "low": metric.scale * interval.low,
        "high": metric.scale * interval.high,
        "p": interval.p_value,
        "p_holm": effect.adjusted,
        "finding": "yes" if effect.found else "no",
    }
    return {
        "kind": Cell(effect.kind, {"kind": effect.kind}),
        "of": Cell(effect.techniques, {"of": effect.techniques}),
        "effect": Cell(cells.points_text(interval, metric), values, strong=effect.found),
        "p": Cell(cells.p_text(effect.adjusted), strong=effect.found),
    }


def _row(
    row: StudyRow,
    study: Study,
    comparisons: Mapping[str, Comparison],
    seeds: Sequence[int],
    chosen: Sequence[Column],
    parts: Parts,
) -> dict[str, Cell]:
    comparison = comparisons.get(row.name)
    base = study.row(row.on) if row.on is not None else None
    paper, ahead = cells.paper(row, study)
    found = {
        "variant": Cell(row.title, {"variant": row.name}),
        **{technique.name: cells.tick(row, technique) for technique in study.techniques},
        "decoder": Cell(row.decoder, {"decoder": row.decoder}),
        **{setting: cells.setting(row, setting) for setting in study.varies},
        **{key: cells.tuned(row, study, key) for key in (study.tuning.keys if study.tuning else ())},
        study.metric.key: cells.score(row, study, seeds),
        "difference": cells.difference(row, study, comparison),
        "p": cells.adjusted_p(comparison),
        "paper": paper,
        "difference_to_paper": ahead,
        "seeds": cells.seeds(row),
        "epochs": cells.epochs(row),
        "health": cells.health(row),
    }
    for measure in cells.measures(study):
        found[measure.key] = cells.part(row, measure, parts[measure.key].get(row.name))
    found |= {column.key: cells.cost(row, base, column) for column in COSTS}
    return {column.key: found[column.key] for column in chosen}


def _shared(study: Study) -> list[Footnote]:
    """What every row has where no column says it."""
    options = study.rows[0].options
    fixed = [technique for technique in study.techniques if not _varies(study, technique)]
    used = [f"{one.short} {options[one.name]}" for one in fixed if options[one.name] != one.baseline]
    return [Footnote(f"Every row: {', '.join(used)}.")] if used else []


def _varies(study: Study, technique: Technique) -> bool:
    return len({row.options[technique.name] for row in study.rows}) > 1
