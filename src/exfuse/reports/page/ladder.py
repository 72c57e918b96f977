"""The ladder: each row's score seed by seed, and its difference to the row that it builds on with the interval."""

import statistics

from exfuse.analysis.cells import p_text, points_text, states
from exfuse.analysis.comparisons import Comparison
from exfuse.reports.page.charts import (
    Chart,
    Trace,
    chart,
    escape,
    interval_chart,
    interval_traces,
    row_axis,
    row_height,
    scatter,
)
from exfuse.reports.page.data import PageData, Section
from exfuse.store.study import StudyRow


def section(data: PageData) -> Section | None:
    """None where no run has finished: there is nothing to draw that the table does not say."""
    if not data.study.done():
        return None
    charts = {"ladder-scores": _scores(data)}
    compared = data.rendering.comparisons
    intervals = {name: one for name, one in compared.items() if one.interval}
    if intervals:
        charts["ladder-differences"] = _differences(data, intervals)
    one_seed = any(one.interval and one.interval.seeds == 1 for one in intervals.values())
    content = {
        "where": data.where,
        "metric": data.study.metric,
        "intervals": bool(intervals),
        "one_seed": one_seed,
        "without": [f"{name} vs {one.base}: {one.reason}" for name, one in compared.items() if one.interval is None],
    }
    return Section("ladder", "Ladder", content, charts)


def _name(row: StudyRow) -> str:
    done, planned = len(row.records), len(row.runs)
    if not done:
        return f"{row.title} ({states(row) or 'missing'})"
    return row.title if done == planned else f"{row.title} ({done} of {planned})"


def _scores(data: PageData) -> Chart:
    traces = []
    rows, metric = data.study.rows, data.study.metric
    for place, row in enumerate(rows):
        scores = row.scores()
        if not scores:
            continue
        look = data.looks[row.name]
        marker = {"color": look.colour, "symbol": look.symbol}
        hover = [
            f"{escape(row.title)}, seed {seed}<br>{escape(f'{metric.name} {metric.precisely(score)}')}"
            for seed, score in scores.items()
        ]
        hovering = {"hovertext": hover, "hoverinfo": "text"}
        dots = {"mode": "markers", "marker": {**marker, "size": 9, "opacity": 0.6}}
        traces.append(
            scatter(
                [metric.scale * score for score in scores.values()],
                [place] * len(scores),
                name=escape(row.title),
                **dots,
                **hovering,
            )
        )
        mean = statistics.mean(scores.values())
        line = {"color": look.colour, "width": 3}
        text = f"{escape(row.title)}<br>mean {escape(metric.precisely(mean))}"
        bar = scatter(
            [metric.scale * mean] * 2, [place - 0.3, place + 0.3], mode="lines", line=line, hovertext=text, hoverinfo="text"
        )
        traces.append(bar)
    return chart(traces, row_height(len(rows)), escape(metric.axis), yaxis=row_axis([escape(_name(row)) for row in rows]))


def _differences(data: PageData, intervals: dict[str, Comparison]) -> Chart:
    traces, names, metric = list[Trace](), list[str](), data.study.metric
    for place, row in enumerate(data.study.rows):
        comparison = intervals.get(row.name)
        title, base = escape(row.title), f" vs {escape(data.study.row(row.on).title)}" if row.on else ""
        names.append(f"{title}<br><span style='font-size:11px'>{base}</span>" if base else title)
        if comparison is None or comparison.interval is None:
            continue
        interval, look = comparison.interval, data.looks[row.name]
        adjusted = "" if comparison.adjusted is None else f"<br>adjusted p {p_text(comparison.adjusted)}"
        found = escape(f"{points_text(interval, metric)} {metric.points}")
        hover = f"{title}{base}<br>{found}{adjusted}<br>resampled: {interval.resampled}"
        traces += interval_traces(place, interval, look.colour, hover, comparison.found, metric.scale)
    known = [one.interval for one in intervals.values() if one.interval]
    return interval_chart(traces, names, known, escape(f"difference in {metric.name} ({metric.points})"), metric.scale)
