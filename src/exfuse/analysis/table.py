"""From a study to its tables: the rows with their differences and costs, and the effects of a factorial study."""

from collections.abc import Mapping, Sequence

from exfuse.analysis import cells
from exfuse.analysis.comparisons import Comparison, compare_rows, effects_of
from exfuse.analysis.document import TIMES, Cell, Column, Footnote, Table, Value
from exfuse.analysis.effects import FactorialEffects
from exfuse.analysis.footnotes import IMAGES_ONLY, footnotes
from exfuse.analysis.resampling import Interval
from exfuse.store.costs import COSTS
from exfuse.store.study import Study, StudyRow


def build_table(study: Study, comparisons: Mapping[str, Comparison] | None = None) -> Table:
    """The study's table: one line a row, see `columns` for what it shows.

    Args:
        study: with its records.
        comparisons: of `compare_rows`, if they are known already.

    Raises:
        UserError: if a run's confusion counts cannot be used.
    """
    found = compare_rows(study) if comparisons is None else comparisons
    seeds = sorted({seed for row in study.rows for seed in row.runs})
    chosen = columns(study)
    parts = compare_parts(study)
    rows = [_row(row, study, found, seeds, chosen, parts) for row in study.rows]
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
    if _vary(study):
        found += [
            Column(
                technique.name,
                technique.short,
                f"{technique.title}, {cells.TICK}: the paper's option or the one named",
                "centre",
            )
            for technique in study.techniques
        ]
    if len({row.decoder for row in study.rows}) > 1:
        found.append(Column("decoder", "decoder", "which levels of the encoder it reads, or which head", "left"))
    for setting in study.varies:
        found.append(Column(setting, setting.rpartition(".")[2].replace("_", " "), f"{setting}, varied on purpose"))
    for key in study.tuning.grid if study.tuning else ():
        name = key.lstrip("+").rpartition(".")[2].replace("_", " ")
        found.append(Column(key, name, f"{key}, the row's best in a search on a part of train"))
    found.append(Column("miou", "mIoU %", "mean intersection over union, mean ± standard deviation over seeds"))
    found.append(Column("seeds", "seeds", "finished runs; the rest is named", "left"))
    if any(row.on for row in study.rows):
        found.append(Column("difference", "Δ mIoU [95 %]", "points above the row it builds on, with the 95 % interval", "left"))
        found.append(Column("p", "p", "of the difference, adjusted for the number of comparisons"))
    found += [Column(measure.key, measure.header, measure.explanation, "left") for measure in _measures(study)]
    if study.paper is not None and any(row.paper is not None for row in study.rows):
        found.append(Column("paper", "paper", "the paper's mIoU in %, and how far it can be trusted"))
        found.append(Column("difference_to_paper", "Δ paper", "our mIoU minus the paper's, in points"))
    worst = "highest mean loss of an epoch after warm-up over that of guessing, and what SEB's output keeps of its input (r)"
    found.append(Column("health", "health", f"of the worst run: {worst}", "left"))
    found += [Column(cost.key, cost.header, cost.explanation) for cost in COSTS]
    return found


Parts = Mapping[str, Mapping[str, Comparison]]  # by measure and row


def compare_parts(study: Study) -> dict[str, dict[str, Comparison]]:
    """What `compare_rows` finds inside objects, near borders and along contours, where the study asks for it."""
    return {measure.key: compare_rows(study, measure.areas) for measure in _measures(study)}


def _measures(study: Study) -> tuple[cells.Measure, ...]:
    return () if study.edge_radius is None else cells.measures(study.edge_radius)


def build_effects_table(study: Study, effects: FactorialEffects | str | None = None) -> Table | None:
    """Main effects, pairwise interactions and Shapley values of a factorial study; None where it has no factors."""
    if not study.factors:
        return None
    found = effects_of(study) if effects is None else effects
    names = ", ".join(name.upper() for name in study.factors)
    title = f"{study.title}: effects of {names}"
    chosen = [
        Column("kind", "effect", "what kind of effect", "left"),
        Column("of", "of", "techniques", "left"),
        Column("effect", "points [95 %]", "points of mIoU, with the 95 % interval", "left"),
    ]
    if isinstance(found, str):
        return Table(f"{study.name}_effects", title, chosen, [], [Footnote(f"No effects: {found}.")])
    rows = [_effect_row(kind, techniques, interval) for kind, techniques, interval in list_effects(found)]
    notes = [
        "Main effect: mIoU with the technique minus without, averaged over all combinations of the others.",
        "Interaction: how much the effect of one technique is larger where the other is used too.",
        "Shapley value: the technique's gain averaged over all orders of adding techniques; together they are the total.",
        f"Intervals of 95 %, not adjusted for their number, from the seeds that all combinations have: {found.total.seeds}.",
    ]
    if found.total.seeds == 1:
        notes.append(f"Every {IMAGES_ONLY}")
    if study.deviations:
        notes.append("The runs were not all under the same settings: see the first table.")
    return Table(f"{study.name}_effects", title, chosen, rows, [Footnote(note) for note in notes], command=study.command)


def list_effects(effects: FactorialEffects) -> list[tuple[str, str, Interval]]:
    """Kind, techniques and interval of every effect, in the order of the table."""
    return [
        *(("main", name.upper(), interval) for name, interval in effects.main.items()),
        *(("interaction", f" {TIMES} ".join(pair).upper(), interval) for pair, interval in effects.interactions.items()),
        *(("Shapley", name.upper(), interval) for name, interval in effects.shapley.items()),
        ("total", " + ".join(effects.main).upper(), effects.total),
    ]


def _effect_row(kind: str, techniques: str, interval: Interval) -> dict[str, Cell]:
    values: dict[str, Value] = {
        "effect": 100 * interval.estimate,
        "low": 100 * interval.low,
        "high": 100 * interval.high,
        "p": interval.p_value,
    }
    return {
        "kind": Cell(kind, {"kind": kind}),
        "of": Cell(techniques, {"of": techniques}),
        "effect": Cell(cells.points_text(interval), values),
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
        **{key: cells.tuned(row, study, key) for key in (study.tuning.grid if study.tuning else ())},
        "miou": cells.miou(row, study, seeds),
        "difference": cells.difference(row, study, comparison),
        "p": cells.adjusted_p(comparison),
        "paper": paper,
        "difference_to_paper": ahead,
        "seeds": cells.seeds(row),
        "health": cells.health(row),
    }
    for measure in _measures(study):
        found[measure.key] = cells.part(row, measure, parts[measure.key].get(row.name))
    found |= {column.key: cells.cost(row, base, column) for column in COSTS}
    return {column.key: found[column.key] for column in chosen}


def _shared(study: Study) -> list[Footnote]:
    """What every row has where no column says it."""
    if _vary(study):
        return []
    options = study.rows[0].options
    used = [f"{used.short} {options[used.name]}" for used in study.techniques if options[used.name] != used.baseline]
    return [Footnote(f"Every row: {', '.join(used) if used else 'no technique of ExFuse'}.")]


def _vary(study: Study) -> bool:
    return any(row.options != study.rows[0].options for row in study.rows)
