"""Which classes a row gains and loses: IoU per class minus that of the row that it builds on."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from exfuse.analysis.cells import number
from exfuse.analysis.figures import style
from exfuse.store.study import Study, StudyRow


def pairs(study: Study) -> list[tuple[StudyRow, StudyRow]]:
    """Rows with the row that they build on, where both have finished a common seed on the same images."""
    found = []
    for row in study.rows:
        if row.on is None:
            continue
        base = study.row(row.on)
        images = {record.manifests["val"] for one in (row, base) for record in one.records.values()}
        classes = all(record.scored for record in row.records.values())
        if set(row.records) & set(base.records) and len(images) == 1 and classes:
            found.append((row, base))
    return found


def changes(row: StudyRow, base: StudyRow) -> dict[str, float]:
    """Change of each class's IoU in points, mean over the common seeds; not a number for an absent class."""
    seeds = sorted(set(row.records) & set(base.records))
    found = {}
    for name in row.records[seeds[0]].scores.iou:
        values = [(row.records[seed].scores.iou[name], base.records[seed].scores.iou[name]) for seed in seeds]
        known = [100 * (ours - theirs) for ours, theirs in values if ours is not None and theirs is not None]
        found[name] = sum(known) / len(known) if known else float("nan")
    return found


def draw(study: Study) -> Figure:
    """Rows against classes, blue for a gain and orange for a loss, numbers in points; classes absent from val are left out."""
    every = pairs(study)
    compared = style.shown(every)
    table = [changes(row, base) for row, base in compared]
    every_class = list(dict.fromkeys(name for one in table for name in one))
    classes = [name for name in every_class if any(np.isfinite(one.get(name, np.nan)) for one in table)]
    values = np.array([[one.get(name, np.nan) for name in classes] for one in table])
    with style.look(axes__spines__left=False, axes__spines__bottom=False):
        names = [f"{row.title} vs {base.title}" for row, base in compared]
        width = 1.6 + style.width_of(names) + 0.46 * max(len(classes), 8)
        figure = Figure(figsize=(width, 1.9 + 0.36 * len(table)), layout="constrained")
        axes = figure.subplots()
        largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
        colours = matplotlib.colormaps["PuOr"].with_extremes(bad="white")
        image = axes.imshow(values, cmap=colours, vmin=-largest, vmax=largest, aspect="auto")
        _write_numbers(axes, values, largest)
        axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(table)), names)
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(len(classes) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(table) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        figure.colorbar(image, ax=axes, label="change in IoU (points)", fraction=0.04, pad=0.02)
        absent = len(every_class) - len(classes)
        left = f", without {absent} absent from val" if absent else ""
        figure.suptitle(f"{study.title}: IoU per class{left}{style.left_out(every)}", fontsize=10)
    return figure


def _write_numbers(axes: matplotlib.axes.Axes, values: NDArray[np.float64], largest: float) -> None:
    digits = 1 if largest < 9.95 else 0
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.5 * largest else style.BLACK
            text = number(float(value), digits, signed=True)
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=ink)
