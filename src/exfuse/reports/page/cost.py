"""Accuracy against cost: where each variant lies, by the cost of one's choice."""

from exfuse.analysis.cells import score
from exfuse.analysis.frontier import APART, dodged, frontier_of
from exfuse.reports.page.charts import Chart, chart, escape, scatter
from exfuse.reports.page.data import PageData, Section
from exfuse.store.costs import COSTS, CostColumn
from exfuse.store.metric import number

_AXES = sorted(COSTS, key=lambda column: column.key != "gigamacs")  # the first is shown first


def section(data: PageData) -> Section | None:
    """None where no finished run knows a cost."""
    known = [cost for cost in _AXES if any(row.cost(cost.key) is not None for row in data.study.rows)]
    if not known:
        return None
    charts = {f"cost-{cost.key}": _draw(cost, data) for cost in known}
    choices = [{"chart": f"cost-{cost.key}", "name": cost.title} for cost in known]
    several = any(len(row.records) > 1 for row in data.study.rows)
    notes = [note.text for note in data.rendering.tables[0].footnotes if note.about == "cost"]
    content = {"where": data.where, "choices": choices, "several": several, "metric": data.study.metric, "notes": notes}
    return Section("cost", "Cost", content, charts)


def _draw(column: CostColumn, data: PageData) -> Chart:
    places, metric, title = {}, data.study.metric, column.title
    digits = metric.digits + 1
    for row in data.study.rows:
        cost, scores = row.cost(column.key), score(row, data.study, ()).values
        mean, spread = scores[f"{metric.key}_mean"], scores[f"{metric.key}_sd"]
        if cost is not None and isinstance(mean, float):
            places[row.name] = (column.scale * cost, mean, spread if isinstance(spread, float) else 0.0)
    names = [row.name for row in data.study.rows if row.name in places]
    costs = [places[name][0] for name in names]
    beside = dict(zip(names, dodged(costs, APART * max(costs)), strict=True))
    sign = -1 if column.gains else 1
    frontier = frontier_of([(beside[name], places[name][1], sign * places[name][0]) for name in names], metric.gains)
    line = {"color": "var(--grid-strong)", "width": 1.5, "dash": "dash"}
    traces = [scatter(*zip(*frontier, strict=True), mode="lines", line=line, hoverinfo="skip", name="frontier")]
    for row in data.study.rows:
        if row.name not in places:
            continue
        x, y, spread = places[row.name]
        look = data.looks[row.name]
        error = {"type": "data", "array": [spread], "color": look.colour, "thickness": 1.5, "width": 4} if spread else None
        hover = f"{escape(row.title)}<br>{title}: {x:.4g}<br>{escape(f'{metric.name} {number(y, digits)} {metric.sign}')}" + (
            f" ± {number(spread, digits)}" if spread else ""
        )
        marker = {"color": look.colour, "symbol": look.symbol, "size": 12}
        described = {"hovertext": hover, "hoverinfo": "text", "name": escape(row.title), "meta": {"variant": row.name}}
        traces.append(scatter([beside[row.name]], [y], mode="markers", marker=marker, error_y=error, **described))
    from_zero = {"range": [0, 1.08 * max(*beside.values(), 1e-9)]}  # a share of a cost is seen as what it is
    return chart(traces, 420, title, escape(metric.axis), xaxis=from_zero)
