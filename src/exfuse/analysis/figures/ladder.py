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
from exfuse.analysis.printed import labels
from exfuse.palette import variant_colours
from exfuse.store.metric import Metric
from exfuse.store.study import MISSING, Study, StudyRow


def draw(study: Study, comparisons: Mapping[str, Comparison], width: float = style.PAGE) -> Figure:
    """Rows from top to bottom as in the table; differences with their 95 % interval. ``width`` is in inches."""
    rows = style.shown_rows(study.rows)
    if not study.done():
        return _nothing(study, width)
    called = labels(study)
    names = style.wrapped({name: _name(study, name, label) for name, label in called.items()}, width)
    with style.look():
        lines = sum(1 + 0.5 * names[row.name].count("\n") for row in rows)
        figure = Figure(figsize=(width, 1.3 + 0.26 * lines), layout="constrained")
        panels = figure.subplots(1, 2 if comparisons else 1, sharey=True, squeeze=False)[0]
        _scores(panels[0], rows, study.metric)
        style.list_rows(panels[0], [names[row.name] for row in rows])
        if comparisons:
            _differences(panels[1], rows, comparisons, study, called)
        style.title(figure, study.title + style.left_out(study.rows))
        figure.draw_without_rendering()
        for axes in panels:
            style.fit_below(axes)
    return figure


def _nothing(study: Study, width: float) -> Figure:
    """That no run has finished, in words: axes without a number would look like a result."""
    with style.look():
        figure = Figure(figsize=(width, 1.6))
        statuses = Counter(run.status for row in study.rows for run in row.runs.values())
        said = "".join(f"; {status}: {number}" for status, number in sorted(statuses.items()))
        figure.text(0.5, 0.4, f"No run has finished{said}.", ha="center", style="italic", color=style.GREY)
        style.title(figure, study.title)
    return figure


def _name(study: Study, name: str, label: str) -> str:
    row = study.row(name)
    done, planned = len(row.records), len(row.runs)
    return label if done in (0, planned) else f"{label} ({done} of {planned})"


def _legend(axes: Axes, handles: Sequence[Line2D]) -> None:
    """Above a panel; in two lines, and at the right end of it, where a column has room for no more."""
    narrow = axes.figure.get_figwidth() <= style.COLUMN  # type: ignore[union-attr]
    axes.legend(
        handles=handles,
        ncols=1 if narrow else 2,
        loc="lower right" if narrow else "lower left",
        bbox_to_anchor=(1 if narrow else 0, 1),
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.0,
        handlelength=1.4,
        labelspacing=0.2,
        borderaxespad=0.1,
    )


def _scores(axes: Axes, rows: Sequence[StudyRow], metric: Metric) -> None:
    for place, (row, colour) in enumerate(zip(rows, variant_colours(len(rows)), strict=True)):
        scores = [*row.scores(metric.scale).values()]
        if not scores:
            _said(axes, place, states(row) or MISSING)
            continue
        axes.plot(scores, [place] * len(scores), style.marker(place), color=colour, alpha=0.6, markersize=5, markeredgewidth=0)
        axes.plot(statistics.mean(scores), place, "|", color=style.BLACK, markersize=13, markeredgewidth=2)
    axes.set_xlabel(metric.axis)
    handles = [
        Line2D([], [], marker="o", color=style.GREY, alpha=0.6, linewidth=0, label="one seed"),
        Line2D([], [], marker="|", color=style.BLACK, markersize=10, markeredgewidth=2, linewidth=0, label="mean"),
    ]
    _legend(axes, handles)


def _said(axes: Axes, place: int, why: str) -> None:
    """Why a row has nothing to show, in its line."""
    beside = axes.get_yaxis_transform()  # x as a share of the panel
    axes.text(0.02, place, why, transform=beside, va="center", style="italic", color=style.GREY)


def _base(base: StudyRow, row: StudyRow, called: Mapping[str, str], narrow: bool) -> str:
    """What a row is compared with, where its own name does not say it: by title, or the number before long names."""
    if " = " in called[row.name]:
        return ""
    if called[base.name] == base.title:
        return "" if narrow else f"vs {base.title}"
    return f"vs {called[base.name].split()[0]}"


def _differences(
    axes: Axes, rows: Sequence[StudyRow], comparisons: Mapping[str, Comparison], study: Study, called: Mapping[str, str]
) -> None:
    axes.axvline(0, color=style.GREY, linewidth=1)
    narrow = axes.figure.get_figwidth() <= style.COLUMN  # type: ignore[union-attr]
    for place, (row, colour) in enumerate(zip(rows, variant_colours(len(rows)), strict=True)):
        comparison = comparisons.get(row.name)
        if comparison is None:
            continue
        label, interval = _base(study.row(comparison.base), row, called, narrow), comparison.interval
        if interval is None:
            _said(axes, place, comparison.reason)
        else:
            style.draw_interval(axes, place, interval, colour, comparison.found, study.metric.scale)
        axes.text(1.01, place, label, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=style.BLACK)
    what = "difference" if narrow else f"difference in {study.metric.name}"
    axes.set_xlabel(f"{what} ({study.metric.points}),{chr(10) if narrow else ' '}95 % interval")
    axes.grid(axis="y", color="#e3e6e9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    handles = style.decided_handles()
    _legend(axes, handles)
