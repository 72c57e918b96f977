"""The ladder: each row's score, seed by seed, beside its difference to the row that it builds on."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from exfuse.analysis.cells import states
from exfuse.analysis.comparisons import Comparison
from exfuse.analysis.figures import style
from exfuse.palette import variant_colours
from exfuse.store.metric import Metric
from exfuse.store.study import MISSING, Study, StudyRow


def draw(study: Study, comparisons: Mapping[str, Comparison]) -> Figure:
    """Rows from top to bottom as in the table; differences with their 95 % interval."""
    rows = style.shown(study.rows)
    if not study.done():
        return _nothing(study)
    with style.look():
        width = 6.5 + 2 * style.width_of(row.title for row in rows)
        figure = Figure(figsize=(width, 1.6 + 0.34 * len(rows)), layout="constrained")
        panels = figure.subplots(1, 2 if comparisons else 1, sharey=True, squeeze=False)[0]
        _scores(panels[0], rows, study.metric)
        style.list_rows(panels[0], [_name(row) for row in rows])
        if comparisons:
            _differences(panels[1], rows, comparisons, study)
        figure.suptitle(study.title + style.left_out(study.rows), fontsize=11)
    return figure


def _nothing(study: Study) -> Figure:
    """That no run has finished, in words: axes without a number would look like a result."""
    with style.look():
        figure = Figure(figsize=(9, 1.6))
        statuses = Counter(run.status for row in study.rows for run in row.runs.values())
        said = "".join(f"; {status}: {number}" for status, number in sorted(statuses.items()))
        figure.text(0.5, 0.4, f"No run has finished{said}.", ha="center", style="italic", color=style.GREY)
        figure.suptitle(study.title, fontsize=11)
    return figure


def _name(row: StudyRow) -> str:
    done, planned = len(row.records), len(row.runs)
    return row.title if done in (0, planned) else f"{row.title} ({done} of {planned})"


def _scores(axes: Axes, rows: Sequence[StudyRow], metric: Metric) -> None:
    for place, (row, colour) in enumerate(zip(rows, variant_colours(len(rows)), strict=True)):
        scores = [*row.scores(metric.scale).values()]
        if not scores:
            beside = axes.get_yaxis_transform()  # x as a share of the panel
            axes.text(0.02, place, states(row) or MISSING, transform=beside, va="center", style="italic", color=style.GREY)
            continue
        axes.plot(scores, [place] * len(scores), style.marker(place), color=colour, alpha=0.6, markersize=5, markeredgewidth=0)
        axes.plot(statistics.mean(scores), place, "|", color=style.BLACK, markersize=13, markeredgewidth=2)
    axes.set_xlabel(metric.axis)
    handles = [
        Line2D([], [], marker="o", color=style.GREY, alpha=0.6, linewidth=0, label="one seed"),
        Line2D([], [], marker="|", color=style.BLACK, markersize=10, markeredgewidth=2, linewidth=0, label="mean"),
    ]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8, borderaxespad=0.1)


def _differences(axes: Axes, rows: Sequence[StudyRow], comparisons: Mapping[str, Comparison], study: Study) -> None:
    axes.axvline(0, color=style.GREY, linewidth=1)
    for place, (row, colour) in enumerate(zip(rows, variant_colours(len(rows)), strict=True)):
        comparison = comparisons.get(row.name)
        if comparison is None:
            continue
        label, interval = f"vs {study.row(comparison.base).title}", comparison.interval
        if interval is None:
            label += f": {comparison.reason}"
        else:
            style.draw_interval(axes, place, interval, colour, comparison.found, study.metric.scale)
        axes.text(1.01, place, label, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=style.BLACK)
    axes.set_xlabel(f"difference in {study.metric.name} ({study.metric.points}), 95 % interval")
    axes.grid(axis="y", color="#e3e6e9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    handles = style.decided_handles()
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8, borderaxespad=0.1)
