"""Accuracy against cost: where each variant lies, by the cost of one's choice."""

from exfuse.analysis.cells import score
from exfuse.analysis.frontier import are_comparable, frontier_of, lay_out, reservations
from exfuse.reports.page.charts import Chart, chart, escape, scatter
from exfuse.reports.page.data import PageData, Section
from exfuse.store.costs import COSTS, CostColumn
from exfuse.store.metric import number

_MARK = (0.016, 0.04)  # of the axes: from one row to the next where they would cover one another
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
    costs, means, spreads = zip(*places.values(), strict=True)
    (left, right), shown_at = lay_out(costs, means, spreads, _MARK)
    sign = -1 if column.gains else 1
    rows = [row for row in data.study.rows if row.name in places]
    points = [(x, y, sign * x) for x, y, _ in places.values()] if are_comparable(rows) else []
    frontier = frontier_of(points, metric.gains)
    line = {"color": "var(--grid-strong)", "width": 1.5, "dash": "dash"}
    ends = [[place[axis] for place in frontier] for axis in (0, 1)]
    traces = [scatter(*ends, mode="lines", line=line, hoverinfo="skip", name="frontier")]
    for row, at in zip(rows, shown_at, strict=True):
        x, y, spread = places[row.name]
        look = data.looks[row.name]
        error = {"type": "data", "array": [spread], "color": look.colour, "thickness": 1.5, "width": 4} if spread else None
        hover = f"{escape(row.title)}<br>{title}: {x:.4g}<br>{escape(f'{metric.name} {number(y, digits)} {metric.sign}')}" + (
            f" ± {number(spread, digits)}" if spread else ""
        )
        marker = {"color": look.colour, "symbol": look.symbol, "size": 12}
        described = {"hovertext": hover, "hoverinfo": "text", "name": escape(row.title), "meta": {"variant": row.name}}
        traces.append(scatter([at], [y], mode="markers", marker=marker, error_y=error, **described))
    named = (f"{title}, not from zero" if left else title) + escape(reservations(data.study, rows, column.key))
    return chart(traces, 420, named, escape(metric.axis), xaxis={"range": [left, right]})
