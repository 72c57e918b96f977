"""Effects of a factorial study with their intervals: main effects, interactions and Shapley values."""

from exfuse.analysis.cells import points_text
from exfuse.analysis.document import MINUS
from exfuse.analysis.effects import FactorialEffects
from exfuse.analysis.table import list_effects
from exfuse.reports.page.charts import Chart, chart, points, row_axis, row_height, span
from exfuse.reports.page.data import PageData, Section

_TITLES = {
    "main": "Main effect: with the technique minus without",
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
            if any(one == kind for one, _, _ in list_effects(found)):
                charts[f"effects-{kind}"] = _draw(kind, found)
                panels.append({"chart": f"effects-{kind}", "title": title})
    return Section("effects", "Effects", {"table": data.rendering.tables[1], "panels": panels, "where": data.where}, charts)


def _draw(kind: str, effects: FactorialEffects) -> Chart:
    shown = [(name, interval) for one, name, interval in list_effects(effects) if one == kind]
    traces = []
    for place, (name, interval) in enumerate(shown):
        clear = not interval.low <= 0 <= interval.high
        colour = "var(--v1)"
        hovering = {"hovertext": f"{name}<br>{points_text(interval)} points", "hoverinfo": "text"}
        ends = [100 * interval.low, 100 * interval.high]
        traces.append(points(ends, [place, place], mode="lines", line={"color": colour, "width": 3}, **hovering))
        marker = {"color": colour if clear else "var(--paper)", "size": 11, "line": {"color": colour, "width": 2.5}}
        traces.append(points([100 * interval.estimate], [place], mode="markers", marker=marker, **hovering))
    axis = row_axis([name for name, _ in shown])
    every = [100 * end for _, _, interval in list_effects(effects) for end in (interval.low, interval.high)]
    zero = {"zeroline": True, "zerolinewidth": 1.5, "range": span(every)}  # the same for all kinds of effects
    return chart(traces, row_height(len(shown)), "points of mIoU", yaxis=axis, xaxis=zero)
