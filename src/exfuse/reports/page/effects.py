"""Effects of a factorial study with their intervals: main effects, interactions and Shapley values."""

from exfuse.analysis.cells import p_text, points_text
from exfuse.analysis.document import MINUS
from exfuse.analysis.effects import FactorialEffects
from exfuse.analysis.table import list_effects
from exfuse.reports.page.charts import Chart, escape, interval_chart, interval_traces
from exfuse.reports.page.data import PageData, Section
from exfuse.store.metric import Metric

_TITLES = {
    "main": "Main effect: with minus without",
    "interaction": f"Interaction: gain together, more (+) or less ({MINUS}) than apart",
    "Shapley": "Shapley value: share of the whole gain",
}


def section(data: PageData) -> Section | None:
    """None where the study is not factorial; without a chart where it is and has no effects, which its table explains."""
    if len(data.rendering.tables) < 2:
        return None
    found = data.rendering.effects
    charts, panels = {}, []
    if isinstance(found, FactorialEffects):
        for kind, title in _TITLES.items():
            if any(effect.kind == kind for effect in list_effects(found)):
                charts[f"effects-{kind}"] = _draw(kind, found, data.study.metric)
                panels.append({"chart": f"effects-{kind}", "title": title})
    return Section(
        "effects",
        "Effects",
        {"table": data.rendering.tables[1], "panels": panels, "where": data.where, "metric": data.study.metric},
        charts,
    )


def _draw(kind: str, effects: FactorialEffects, metric: Metric) -> Chart:
    every = list_effects(effects)
    shown = [effect for effect in every if effect.kind == kind]
    traces = []
    for place, one in enumerate(shown):
        found = escape(f"{points_text(one.interval, metric)} {metric.points}")
        hover = f"{escape(one.techniques)}<br>{found}<br>p {p_text(one.adjusted)} (Holm)"
        traces += interval_traces(place, one.interval, "var(--v1)", hover, one.found, metric.scale)
    intervals = [one.interval for one in every]  # an axis for all kinds of effects
    return interval_chart(
        traces, [escape(one.techniques) for one in shown], intervals, escape(f"{metric.points} of {metric.name}"), metric.scale
    )
