"""What W&B would draw of a report, as one HTML page: its service cannot be asked, and a layout is judged by its looks."""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence

from jinja2 import PackageLoader

from exfuse.analysis.formats.html import environment
from exfuse.analysis.rendering import Rendering
from exfuse.reports.page import charts, curves
from exfuse.reports.page.charts import Chart, Trace
from exfuse.reports.page.data import PageData
from exfuse.reports.page.page import common_parts
from exfuse.reports.wandb_document import Panel
from exfuse.store.history import curve, metrics
from exfuse.store.study import Study
from exfuse.tracking.showing import outcome_values

_ROW = 38  # pixels of a row of W&B's grid
_NAMED = 12  # columns of it that a panel with the names of rows needs
_PICTURES = "every run's own pictures and tables, as its training sent them"


def render_preview(study: Study, panels: Mapping[str, Sequence[Panel]]) -> str:
    """The panels at their places, drawn from the records and training curves in the study's folder.

    Args:
        study: whose report it is.
        panels: by the heading above them.
    """
    data = PageData(Rendering(study), None, {}, 0)
    drawn: dict[str, Chart] = {}
    sections = []
    for heading, of_heading in panels.items():
        shown = []
        for panel in of_heading:
            draws = _DRAWN.get(panel.kind)
            chart = draws(panel, data) if draws else None
            without = "no curve of it lies with the records: exfuse report page gathers them" if draws else _PICTURES
            name = f"panel-{len(drawn)}" if chart else ""
            if chart:
                drawn[name] = chart
            shown.append({"title": panel.title, "chart": name, "place": panel.place, "without": without})
        sections.append({"title": heading, "panels": shown})
    template = environment(PackageLoader("exfuse.reports.page")).get_template("preview.html.jinja")
    rows = [{"title": row.title, "swatch": data.looks[row.name].swatch} for row in study.rows if row.records]
    parts = common_parts(drawn, ("theme.js", "variants.js", "charts.js"))
    return template.render(study=study, table=data.rendering.tables[0], sections=sections, rows=rows, **parts).lstrip()


def _bars(panel: Panel, data: PageData) -> Chart:
    """The mean over seeds of each row, the lowest and the highest on it."""
    found = {
        name: [value for one in values if (value := one.get(panel.y[0])) is not None] for name, values in _ends(data).items()
    }
    names = [row for row in data.study.rows if found.get(row.name)]
    means = [statistics.mean(found[row.name]) for row in names]
    beyond = [max(found[row.name]) - mean for row, mean in zip(names, means, strict=True)]
    below = [mean - min(found[row.name]) for row, mean in zip(names, means, strict=True)]
    trace = charts.bars(means, range(len(names)), [data.looks[row.name].colour for row in names], beyond, below)
    named = panel.place[2] >= _NAMED  # in a narrower panel names would leave no room for bars: their colours say it
    axis = charts.row_axis([charts.escape(row.title) if named else "" for row in names])
    return charts.chart([trace], _ROW * panel.place[3], charts.escape(panel.y[0]), yaxis=axis, xaxis={"rangemode": "tozero"})


def _lines(panel: Panel, data: PageData) -> Chart | None:
    """The mean over seeds of each row, with a band from the lowest to the highest."""
    every = metrics(history for by_seed in data.histories.values() for history in by_seed.values())
    names = [name for name in every if (re.search(panel.pattern, name) if panel.pattern else name in panel.y)]
    bands: list[Trace] = []
    lines: list[Trace] = []
    for name in names:
        for row in data.study.rows:
            of_seeds = [
                [(history[step].get(panel.x, step), value) for step, value in curve(history, name)]
                for history in data.histories.get(row.name, {}).values()
            ]
            steps, values = curves.common_steps([one for one in of_seeds if one])
            if steps:
                look = data.looks[row.name]
                bands += curves.band(row.name, steps, values, look)
                lines.append(curves.mean(row.name, charts.escape(row.title), steps, values, look, panel.x))
    return charts.chart([*bands, *lines], _ROW * panel.place[3], panel.x, charts.escape(panel.title)) if lines else None


def _points(panel: Panel, data: PageData) -> Chart:
    """Every run by itself."""
    traces = []
    for row in data.study.rows:
        known = [(one[panel.x], one[panel.y[0]]) for one in _ends(data)[row.name] if {panel.x, panel.y[0]} <= one.keys()]
        if known:
            marker = {"color": data.looks[row.name].colour, "size": 10}
            traces.append(
                charts.scatter(*zip(*known, strict=True), mode="markers", marker=marker, name=charts.escape(row.title))
            )
    return charts.chart(traces, _ROW * panel.place[3], charts.escape(panel.x), charts.escape(panel.y[0]))


def _ends(data: PageData) -> dict[str, list[dict[str, float]]]:
    """What W&B keeps as the summary of each row's runs."""
    return {
        row.name: [outcome_values(record.scores, record.costs) for record in row.records.values()] for row in data.study.rows
    }


_DRAWN: dict[str, Callable[[Panel, PageData], Chart | None]] = {"BarPlot": _bars, "LinePlot": _lines, "ScatterPlot": _points}
