"""What a reader asks first: a sentence for each technique, comparison and claim, with its certainty."""

from typing import NamedTuple

from exfuse.analysis.cells import p_text, points_text
from exfuse.analysis.comparisons import ALPHA, Comparison
from exfuse.analysis.effects import FactorialEffects
from exfuse.analysis.printed import added
from exfuse.analysis.resampling import Interval
from exfuse.analysis.table import list_effects
from exfuse.reports.page.data import PageData
from exfuse.store.metric import Metric


class Answer(NamedTuple):
    """What it is about, what was found, and whether that is decided after the correction for all that was asked."""

    about: str
    said: str
    decided: bool


def answers(data: PageData) -> list[Answer]:
    """Main effects of a factorial study, else each row's difference, then claims; what has no interval is left out."""
    study, compared, effects = data.study, data.rendering.compared, data.rendering.effects
    if isinstance(effects, FactorialEffects):
        main = [one for one in list_effects(effects) if one.kind == "main"]
        found = [
            Answer(one.techniques, _said(study.metric, one.interval, one.adjusted, "on average", one.found), one.found)
            for one in main
        ]
    else:
        found = [_of_row(data, one, one.interval) for one in compared.rows.values() if one.interval]
    for claim, one in zip(study.claims, compared.claims, strict=True):
        if one.interval and one.adjusted is not None:
            others = ", ".join(study.row(name).title for name in claim.of)
            said = f"lies {claim.lies} each of {others}: {'established' if one.found else 'not established'}"
            found.append(Answer(study.row(claim.row).title, f"{said} (p {p_text(one.adjusted)}).", one.found))
    return found


def certainty(data: PageData) -> str:
    """What the answers' certainty means."""
    seeds = {one.interval.seeds for one in data.rendering.comparisons.values() if one.interval}
    metric = data.study.metric
    few = " One seed: the noise of training is not in it." if seeds == {1} else ""
    return (
        f"{metric.differences}, with the 95 % interval; {data.where}. Decided: p, adjusted for all comparisons of its table, "
        f"is below {ALPHA}.{few} Other data, recipes and backbones may answer otherwise."
    )


def _of_row(data: PageData, one: Comparison, interval: Interval) -> Answer:
    row, base = data.study.row(one.row), data.study.row(one.base)
    about = " and ".join(added(data.study, row, base)) or row.title
    said = _said(data.study.metric, interval, one.adjusted, f"({row.title} over {base.title})", one.found)
    return Answer(about, said, one.found)


def _said(metric: Metric, interval: Interval, adjusted: float | None, where: str, decided: bool) -> str:
    found = points_text(interval, metric)
    p = "" if adjusted is None else f", p {p_text(adjusted)}"
    if not decided:
        return f"not decided: {found} {where}{p}."
    return f"{'gains' if metric.gains(interval.estimate) else 'loses'}: {found} {where}{p}."
