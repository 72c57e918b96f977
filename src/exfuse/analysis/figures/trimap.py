"""Trimap curves: mIoU in a band around the true borders against the band's radius, and what each row gains in it."""

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exfuse.analysis.cells import number
from exfuse.analysis.figures import style
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


def draw(study: Study) -> Figure:
    """Left mIoU of the band, right the points above the row that each row builds on; bands of colour: ± sd over seeds."""
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
        figure = Figure(figsize=(10.5 if pairs else 7.5, 4.5 + 0.03 * len(rows)), layout="constrained")
        panels = figure.subplots(1, 2 if pairs else 1, squeeze=False)[0]
        spread = False
        for row in rows:
            spread |= _line(panels[0], curve(row), looks[row.name], row.title)
        panels[0].set_ylabel("mIoU in the band (%)")
        if pairs:
            panels[1].axhline(0, color=style.GREY, linewidth=1)
            for row, base in pairs:
                spread |= _line(panels[1], curve(row, base), looks[row.name], f"{row.title} vs {base.title}")
            panels[1].set_ylabel("points above the row it builds on")
            panels[1].yaxis.set_major_formatter(lambda value, _: number(value, 1, signed=True))
        for axes in panels:
            _radius_axis(axes, sorted({radius for row in rows for radius, _ in curve(row)}))
        handles, labels = panels[0].get_legend_handles_labels()
        columns = max(1, min(8, len(rows), int(figure.get_figwidth() / (0.6 + style.width_of(labels)))))
        figure.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=7.5, ncols=columns)
        note = ", ± standard deviation over seeds" if spread else ""
        figure.suptitle(f"{study.title}: edges{note}{style.left_out(every)}", fontsize=11)
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
