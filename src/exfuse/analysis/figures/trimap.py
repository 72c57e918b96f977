"""Trimap curves: mIoU in a band around the true borders against the band's radius, and what each row gains in it."""

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exfuse.analysis.cells import number
from exfuse.analysis.figures import style
from exfuse.analysis.printed import labels
from exfuse.palette import variant_colours, variant_place
from exfuse.store.study import Study, StudyRow

Curve = list[tuple[int, list[float]]]  # radius in px, and by seed a mean IoU or a difference, in % or points
_LINES = ("-", "--", ":", "-.")


def rows_with_areas(study: Study) -> list[StudyRow]:
    """The rows whose finished runs, at least one, all know their areas near borders."""
    return [row for row in study.rows if row.records and all(row.runs[seed].boundary_areas for seed in row.records)]


def curve(row: StudyRow, base: StudyRow | None = None) -> Curve:
    """By radius, one number a seed: mIoU of the band in %, with ``base`` minus that of the base's run of the same seed.

    Radii whose band holds no pixel are left out.
    """
    seeds = [seed for seed in row.records if base is None or seed in base.records]
    own = {seed: _by_radius(row, seed) for seed in seeds}
    other = {seed: _by_radius(base, seed) if base else dict.fromkeys(own[seed], 0.0) for seed in seeds}
    radii = sorted(set.intersection(*(set(own[seed]) & set(other[seed]) for seed in seeds))) if seeds else []
    return [(radius, [own[seed][radius] - other[seed][radius] for seed in seeds]) for radius in radii]


def draw(study: Study, width: float = style.PAGE) -> Figure:
    """First mIoU of the band, then the points above the row that each row builds on; bands of colour: ± sd over seeds.

    Beside each other, or below where ``width`` (inches) is that of a column.
    """
    every = rows_with_areas(study)
    rows = style.shown(every)
    names = {row.name for row in rows}
    pairs = [(row, study.row(row.on)) for row in rows if row.on in names and row.on is not None]
    turns = [variant_place(place)[1] for place in range(len(rows))]
    looks = {
        row.name: (colour, _LINES[turn % len(_LINES)])
        for row, colour, turn in zip(rows, variant_colours(len(rows)), turns, strict=True)
    }
    with style.look():
        number_of, narrow = 2 if pairs else 1, width <= style.COLUMN
        called = labels(study)
        columns = max(1, min(8, len(rows), int(width / (0.5 + style.width_of(called.values())))))
        high = (2.2 * number_of if narrow else 2.9) + 0.6 + 0.14 * -(-len(rows) // columns)
        figure = Figure(figsize=(width, high), layout="constrained")
        panels = figure.subplots(*((number_of, 1) if narrow else (1, number_of)), squeeze=False).ravel()
        spread = False
        for row in rows:
            spread |= _line(panels[0], curve(row), looks[row.name], called[row.name])
        panels[0].set_ylabel("mIoU in the band (%)")
        if pairs:
            panels[1].axhline(0, color=style.GREY, linewidth=1)
            for row, base in pairs:
                spread |= _line(panels[1], curve(row, base), looks[row.name], called[row.name])
            panels[1].set_ylabel("points above the row built on")
            panels[1].yaxis.set_major_formatter(lambda value, _: number(value, 1, signed=True))
        for axes in panels:
            _radius_axis(axes, sorted({radius for row in rows for radius, _ in curve(row)}))
        handles, names_shown = panels[0].get_legend_handles_labels()
        figure.legend(handles, names_shown, loc="outside lower center", frameon=False, ncols=columns)
        note = ", ± standard deviation over seeds" if spread else ""
        style.title(figure, f"{study.title}: edges{note}{style.left_out(every)}")
    return figure


def _line(axes: Axes, points: Curve, look: tuple[str, str], name: str) -> bool:
    """Draw the mean over seeds; whether there is a spread to draw with it."""
    colour, line = look
    radii = [radius for radius, _ in points]
    means = [statistics.mean(values) for _, values in points]
    axes.plot(radii, means, linestyle=line, marker="o", markersize=3.5, linewidth=1.4, color=colour, label=name)
    several = bool(points) and len(points[0][1]) > 1
    if several:
        spreads = [statistics.stdev(values) for _, values in points]
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axes.fill_between(radii, low, high, color=colour, alpha=0.12, linewidth=0)
    return several


def _radius_axis(axes: Axes, radii: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(radii, [str(radius) for radius in radii])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("radius of the band around true borders (px)")
    axes.grid(color="#eceef0", linewidth=0.6)
    axes.set_axisbelow(True)


def _by_radius(row: StudyRow, seed: int) -> dict[int, float]:
    areas = row.runs[seed].boundary_areas
    assert areas is not None  # `rows_with_areas`
    totals = {radius: areas.band(radius).total() for radius in areas.radii}
    return {radius: 100 * float(total.mean_iou()) for radius, total in totals.items() if total.true.any()}
