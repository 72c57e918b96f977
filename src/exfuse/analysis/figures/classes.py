"""Which classes a row gains and loses: IoU per class minus that of the row that it builds on."""

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from exfuse.analysis.cells import number
from exfuse.analysis.comparisons import why_not
from exfuse.analysis.figures import style
from exfuse.analysis.frequent import with_images
from exfuse.analysis.printed import labels
from exfuse.errors import rounded
from exfuse.store.study import Study, StudyRow


def pairs(study: Study) -> list[tuple[StudyRow, StudyRow]]:
    """Rows with the row that they build on, where both have finished a common seed on the same images."""
    on = [(row, study.row(row.on)) for row in study.rows if row.on is not None]
    return [(row, base) for row, base in on if not why_not(row, base, lambda run: run.record and run.record.scored)]


def changes(row: StudyRow, base: StudyRow) -> dict[str, float]:
    """Change of each class's IoU in points, mean over the common seeds; not a number for an absent class."""
    return {name: sum(known) / len(known) if known else float("nan") for name, known in _gains(row, base).items()}


def agreed(row: StudyRow, base: StudyRow) -> dict[str, bool]:
    """Whether each class's IoU changed in the same direction with every common seed that has it; always, with one or none."""
    return {name: len({*np.sign(known)}) <= 1 for name, known in _gains(row, base).items()}


def _gains(row: StudyRow, base: StudyRow) -> dict[str, list[float]]:
    """Of every class in points, by common seed."""
    ours, theirs = row.records, base.records
    seeds = sorted(set(ours) & set(theirs))
    pairs = {
        name: [(ours[seed].scores.iou[name], theirs[seed].scores.iou[name]) for seed in seeds]
        for name in ours[seeds[0]].scores.iou
    }
    return {name: [100 * (a - b) for a, b in values if a is not None and b is not None] for name, values in pairs.items()}


def draw(study: Study, width: float = style.PAGE) -> Figure:
    """Rows against classes, blue for a gain and orange for a loss, numbers in points; classes absent from val are left out.

    Pale are changes on whose direction the seeds do not agree; one class that changes more than all others does not set the
    scale, whose ends then point on. A class that few images show says how many. Classes stand below one another where they do
    not fit side by side in ``width`` inches.
    """
    every = pairs(study)
    compared = style.shown_rows(every)
    table = [changes(row, base) for row, base in compared]
    every_class = list(dict.fromkeys(name for one in table for name in one))
    classes = [name for name in every_class if any(np.isfinite(one.get(name, np.nan)) for one in table)]
    values = np.array([[one.get(name, np.nan) for name in classes] for one in table]).reshape(len(table), len(classes))
    agreement = [agreed(row, base) for row, base in compared]
    sure = np.array([[one.get(name, False) for name in classes] for one in agreement]).reshape(values.shape)
    known = labels(study)
    derived = any(" = " in name for name in known.values())
    short = derived or width <= style.COLUMN
    names = [known[row.name] if short else f"{row.title} vs {base.title}" for row, base in compared]
    turned = (width - 0.8 - style.width_of(names)) / max(1, len(classes)) < _CELL
    ticks = with_images(study, classes)
    across, down = (names, ticks) if turned else (ticks, names)
    values, sure = (values.T, sure.T) if turned else (values, sure)
    with style.look(axes__spines__left=False, axes__spines__bottom=False):
        figure = Figure(figsize=(width, 1.2 + 0.8 * style.width_of(across) + 0.23 * len(down)), layout="constrained")
        axes = figure.subplots()
        largest = _scale(values if turned else values.T)
        colours = LinearSegmentedColormap.from_list("change", (style.ORANGE, "white", style.BLUE)).with_extremes(bad="white")
        faded = np.where(sure, 1.0, 0.3)
        image = axes.imshow(values, cmap=colours, vmin=-largest, vmax=largest, aspect="auto", alpha=faded)
        room = 72 * (width - 0.9 - style.width_of(down)) / max(1, len(across))  # points
        _write_numbers(axes, values, sure, largest, room)
        axes.set_xticks(range(len(across)), across, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(down)), down)
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(len(across) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(down) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        beyond = np.nanmax(np.abs(values), initial=0.0) > largest
        extend = "both" if beyond else "neither"
        figure.colorbar(image, ax=axes, label="change in IoU (points)", fraction=0.04, pad=0.02, extend=extend)
        absent = len(every_class) - len(classes)
        left = f", without {absent} absent from val" if absent else ""
        pale = "" if sure.all() else "; pale: seeds do not agree"
        clipped = f"; colours end at ±{rounded(largest)}" if beyond else ""
        few = "; in brackets: images that show it, where few do" if ticks != classes else ""
        style.title(figure, f"{study.title}: IoU per class{left}{style.left_out(every)}{pale}{clipped}{few}")
    return figure


_CELL = 0.26  # inches that a number of three letters takes


def _scale(by_class: NDArray[np.float64]) -> float:
    """The largest change (classes, rows) of all classes, but for one that changes more than a quarter more than all others."""
    largest = sorted(float(np.nanmax(np.abs(row), initial=0.0)) for row in by_class)
    return (largest[-2] if len(largest) > 1 and 0 < 1.25 * largest[-2] < largest[-1] else largest[-1]) or 1.0


def _write_numbers(
    axes: matplotlib.axes.Axes, values: NDArray[np.float64], sure: NDArray[np.bool_], largest: float, room: float
) -> None:
    digits = 1 if np.nanmax(np.abs(values), initial=0.0) < 9.95 and room > 19 else 0
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.5 * largest and sure[row, column] else style.BLACK
            text = number(float(value), digits, signed=True)
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
