"""Accuracy against cost: where each row lies, labelled so that no label hides a point or another label."""

import itertools
import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from exfuse.analysis.figures import style
from exfuse.analysis.frontier import are_comparable, frontier_of, lay_out, reservations
from exfuse.analysis.printed import labels
from exfuse.palette import variant_colours
from exfuse.store.study import Study, StudyRow

Floats = NDArray[np.float64]
Line = tuple[tuple[float, float], tuple[float, float]]
_MOST_NAMES = 14  # rows whose names fit beside their points
_MARK = 6.5  # typographic points from one row to the next where they would cover one another
_LINE_POINTS = 60  # at which a line is seen
_CUT = 100  # times as bad as a name that covers something
_DISTANCES = (7, 14, 24, 38, 54, 74, 98)  # of a label from its point, in typographic points


def rows_with_cost(study: Study) -> list[StudyRow]:
    """The rows that have a finished run whose multiply-adds are known."""
    return [row for row in study.rows if row.cost("gigamacs") is not None]


def draw(study: Study, width: float = style.PAGE) -> Figure:
    """GMACs against the mean score, its standard deviation over seeds and the frontier: no cheaper row is better.

    Marks that would cover one another stand side by side. Many rows bear numbers instead of names, which a list below the
    axes explains. ``width`` is in inches.
    """
    every, metric = rows_with_cost(study), study.metric
    rows = style.shown_rows(every)
    numbered = len(rows) > _MOST_NAMES
    called = style.wrapped(labels(study), width)
    names = [str(number) if numbered else called[row.name] for number, row in enumerate(rows, 1)]
    costs = [row.cost("gigamacs") or 0.0 for row in rows]
    means, spreads = zip(*(_mean_and_spread(row, metric.scale) for row in rows), strict=True)
    points = [(cost, mean, cost) for cost, mean in zip(costs, means, strict=True)] if are_comparable(rows) else []
    frontier = frontier_of(points, metric.gains)
    (left, right), shown_at = lay_out(costs, means, spreads, (_MARK / (72 * width - 60), _MARK / (36 * width - 20)))
    places = {row.name: (x, mean) for row, x, mean in zip(rows, shown_at, means, strict=True)}
    colours = variant_colours(len(study.rows))
    with style.look():
        listed = _listed([called[row.name] for row in rows], width) if numbered else ""
        below = 0.115 * (listed.count("\n") + 2) if numbered else 0
        figure = Figure(figsize=(width, 0.9 + 0.5 * width + below), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        lines: list[Line] = [(start, end) for start, end in itertools.pairwise(frontier)]
        ends = np.array(frontier).reshape(-1, 2).T
        axes.plot(*ends, color="#b4bac0", linewidth=1.2, linestyle="--", zorder=1, label="frontier")
        for row, spread in sorted(zip(rows, spreads, strict=True), key=lambda one: -one[1]):  # a short bar over a long one
            (x, y), at = places[row.name], study.rows.index(row)
            lines.append(((x, y - spread), (x, y + spread)))
            sign, colour = style.marker(at), colours[at]
            axes.errorbar(x, y, yerr=spread or None, fmt=sign, color=colour, elinewidth=1.2, capsize=2, markersize=5)
        if len(frontier) > 1:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.1)
        axes.margins(0.16, 0.14)
        axes.set_xlim(left, right)
        beside = "; not from zero" if left else ""
        beside += "; marks that would cover one another: side by side" if shown_at != costs else ""
        narrow = width <= style.COLUMN
        axes.set_xlabel(f"GMACs of one image{'' if narrow else f' (10⁹ multiply-adds){beside}'}")
        deviation = ", ± sd over seeds" if narrow else ", ± standard deviation over seeds"
        spread_note = deviation if any(spreads) else ""
        axes.set_ylabel(f"{metric.axis}{spread_note}")
        style.title(figure, study.title + style.left_out(every) + reservations(study, rows, "gigamacs"))
        axes.grid(color="#eceef0", linewidth=0.6)
        axes.set_axisbelow(True)
        if numbered:
            figure.supxlabel(listed, x=0.02, ha="left", fontsize=7, family="monospace", linespacing=1.25)
        figure.draw_without_rendering()
        style.fit_below(axes)
        style.fix_layout(figure)
        label_points(figure, axes, [(*places[row.name], name) for row, name in zip(rows, names, strict=True)], lines)
    return figure


def _listed(names: Sequence[str], width: float) -> str:
    """Numbered names in as many columns as fit."""
    items = [f"{number:>2}  {' '.join(name.split())}" for number, name in enumerate(names, 1)]
    longest = max(map(len, items)) + 2
    columns = max(1, int(width / (0.062 * longest)))
    high = -(-len(items) // columns)
    return "\n".join("".join(item.ljust(longest) for item in items[line::high]).rstrip() for line in range(high))


def label_points(
    figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]], lines: Sequence[Line] = ()
) -> list[Bbox]:
    """Write each point's name as near to it as it fits beside all points, lines and earlier labels; boxes in pixels.

    Args:
        figure: with a layout that is final.
        axes: of the points.
        points: x, y in data coordinates, and name.
        lines: start and end in data coordinates.
    """
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    scale = figure.dpi / 72
    centres = axes.transData.transform([(x, y) for x, y, _ in points])
    taken = [_boxes(centres, 10 * scale, 10 * scale)]
    if lines:
        starts, ends = (axes.transData.transform([line[end] for line in lines]) for end in (0, 1))
        shares = np.linspace(0, 1, _LINE_POINTS)[:, None, None]
        taken.append(_boxes((starts + shares * (ends - starts)).reshape(-1, 2), 2 * scale, 2 * scale))
    inside = np.array(axes.get_window_extent().extents)
    boxes: list[Floats] = []
    leaders: list[tuple[Floats, Floats]] = []
    for (x, y, name), centre in zip(points, centres, strict=True):
        label = axes.annotate(name, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=7.5, va="center", ha="center")
        label.set(zorder=4, bbox={"facecolor": "white", "linewidth": 0, "pad": 0.8})  # no line that leads by strikes it through
        extent = label.get_window_extent(renderer)
        width, height = extent.width + 3 * scale, extent.height + 2 * scale
        obstacles = np.concatenate([*taken, *boxes])
        offset, box, led = _free_place(centre, width, height, obstacles, inside, scale, centres, boxes, leaders)
        label.set_position(tuple(offset / scale))
        if led:
            leaders.append((centre, centre + offset))
            taken.append(_boxes(centre + np.linspace(0, 1, _LINE_POINTS)[:, None] * offset, 2 * scale, 2 * scale))
            arrow = {"arrowstyle": "-", "color": style.GREY, "linewidth": 0.6, "shrinkB": 4, "shrinkA": 0}
            axes.annotate("", (x, y), xytext=tuple(offset / scale), textcoords="offset points", arrowprops=arrow, zorder=1.5)
        boxes.append(box[None])
    return [Bbox.from_extents(*box[0]) for box in boxes]


def _are_led(offsets: Floats, boxes: Floats, centre: Floats, centres: Floats) -> NDArray[np.bool_]:
    """Whether a label would not be seen as its point's, so that a line leads there: it lies far off, or as near to another."""
    width, height = (boxes[0, 2:] - boxes[0, :2]).tolist()

    def away(points: Floats) -> Floats:
        beyond = np.maximum(np.maximum(boxes[:, None, :2] - points, points - boxes[:, None, 2:]), 0)
        return np.hypot(beyond[..., 0], beyond[..., 1])

    others = away(centres[(centres != centre).any(1)]).min(1, initial=np.inf)
    return (np.hypot(*offsets.T) > 1.5 * height + width / 2) | (others < 1.5 * away(centre[None])[:, 0])


def _free_place(
    centre: Floats,
    width: float,
    height: float,
    taken: Floats,
    inside: Floats,
    scale: float,
    centres: Floats,
    labels_before: Sequence[Floats],
    leaders: Sequence[tuple[Floats, Floats]],
) -> tuple[Floats, Floats, bool]:
    """The nearest offset (pixels) whose box touches nothing and whose leader crosses no other, no point and no label, the
    box, and whether a leader is needed; the least bad one if there is none.
    """
    angles = np.radians((0, 180, 90, 270, 35, 145, 325, 215))
    reach = np.array(_DISTANCES)[:, None, None] * scale + np.array([width / 2, height / 2])
    offsets = (np.stack([np.cos(angles), np.sin(angles)], -1) * reach).reshape(-1, 2)  # nearest first
    boxes = _boxes(centre + offsets, width, height)
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    near = taken[(taken[:, 2:] > low).all(1) & (taken[:, :2] < high).all(1)]  # the others touch no place
    outside = width * height - _shared_areas(boxes, inside[None])[:, 0]  # where a name is cut off
    blocked = _shared_areas(boxes, near).sum(1) + _CUT * outside
    led = _are_led(offsets, boxes, centre, centres)
    for start, end in leaders:
        blocked += led * width * height * _cross(centre, centre + offsets, start, end)
    on_the_way = centre + np.linspace(0.05, 0.95, _LINE_POINTS)[:, None] * offsets[:, None]  # (offsets, points, 2)
    other_points = _boxes(centres[(centres != centre).any(1)], 8 * scale, 8 * scale)
    of_others = np.concatenate([other_points, *labels_before])[:, None, None]
    under = ((on_the_way > of_others[..., :2]) & (on_the_way < of_others[..., 2:])).all(-1).any((0, 2))
    blocked += led * width * height * under
    best = int(np.argmax(blocked < 1e-6)) if (blocked < 1e-6).any() else int(np.argmin(blocked))
    return offsets[best], boxes[best], bool(led[best])


def _boxes(centres: Floats, width: float, height: float) -> Floats:
    """Corners (n, 4) as x0, y0, x1, y1 of boxes around centres (n, 2)."""
    half = np.array([width / 2, height / 2])
    return np.concatenate([centres - half, centres + half], axis=1)


def _shared_areas(boxes: Floats, others: Floats) -> Floats:
    """By how much boxes (n, 4) and others (m, 4) overlap: (n, m)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1)


def _mean_and_spread(row: StudyRow, scale: float) -> tuple[float, float]:
    """Of the scores times ``scale``; no spread for one seed."""
    scores = [*row.scores(scale).values()]
    return statistics.mean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0


def _cross(start: Floats, ends: Floats, other_start: Floats, other_end: Floats) -> NDArray[np.bool_]:
    """Whether the lines from ``start`` to each of ``ends`` cross the other line between its ends."""

    def side(a: Floats, b: Floats, c: Floats) -> Floats:
        found: Floats = np.sign((b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0])
        return found

    apart = side(start, ends, other_start) != side(start, ends, other_end)
    return apart & (side(other_start, other_end, start) != side(other_start, other_end, ends))
