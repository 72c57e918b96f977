"""Trimap curves: mIoU in a band around the true borders against the band's radius, and what each row gains in it."""

import statistics
import textwrap
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exfuse.analysis.cells import number
from exfuse.analysis.comparisons import scored_on
from exfuse.analysis.figures import style
from exfuse.analysis.printed import labels
from exfuse.palette import variant_colours, variant_place
from exfuse.store.study import Study, StudyRow

Curve = list[tuple[int, list[float]]]  # radius in px, and by seed a mean IoU or a difference, in % or points
_LINES = ("-", "--", ":", "-.")
_MOST_LINES = 4  # that a panel holds
_LEAST = 0.5  # points that the axis of differences spans, so that nothing looks like a gulf
_PANEL = 2.2  # inches of width that one takes


def rows_with_areas(study: Study) -> list[StudyRow]:
    """The rows whose finished runs, at least one, all know their areas near borders."""
    return [row for row in study.rows if row.records and all(row.runs[seed].boundary_areas for seed in row.records)]


def band_curve(row: StudyRow, base: StudyRow | None = None) -> Curve:
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

    Up to `_MOST_LINES` rows share the two panels; of more, each row has a panel of its own, on common axes, as many beside each
    other as ``width`` (inches) holds.
    """
    every = rows_with_areas(study)
    rows = style.shown_rows(every)
    names = {row.name for row in rows}
    pairs = [(row, study.row(row.on)) for row in rows if row.on in names and row.on is not None]
    pairs = [(row, base) for row, base in pairs if len(scored_on(row) | scored_on(base)) == 1]
    looks = {
        row.name: (colour, _LINES[variant_place(place)[1] % len(_LINES)])
        for place, (row, colour) in enumerate(zip(study.rows, variant_colours(len(study.rows)), strict=True))
    }
    few, called = len(rows) <= _MOST_LINES, labels(study)
    levels = list(rows) if few or not pairs else [row for row in rows if row not in [row for row, _ in pairs]]
    size = len(levels) if few else _MOST_LINES
    drawn: list[list[tuple[StudyRow, StudyRow | None]]] = [
        [(row, None) for row in levels[start : start + size]] for start in range(0, len(levels), size)
    ]
    gains = [list(pairs)] if few and pairs else [[pair] for pair in pairs]
    drawn += [[*one] for one in gains]
    across = min(len(drawn), 1 if few and width <= style.COLUMN else max(2, round(width / _PANEL)))
    down = -(-len(drawn) // across)
    with style.look():
        figure = Figure(figsize=(width, 0.6 + down * (2.2 if few else 1.7)), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for alike in (panels[: len(drawn) - len(gains)], panels[len(drawn) - len(gains) : len(drawn)]):
            for axes in alike[1:]:
                axes.sharey(alike[0])
        spread = False
        for axes, lines in zip(panels, drawn, strict=False):
            for row, base in lines:
                spread |= _line(axes, band_curve(row, base), looks[row.name], called[row.name])
            of_gains = lines[0][1] is not None
            if of_gains:
                axes.axhline(0, color=style.GREY, linewidth=1, zorder=1)
                axes.yaxis.set_major_formatter(partial(_points, axes))
            base_name = f"\nabove {called[lines[0][1].name]}" if lines[0][1] and len(lines) == 1 else ""
            axes.set_ylabel(
                "points above the row built on" if few and of_gains else "points" if of_gains else "mIoU in the band (%)"
            )
            if len(lines) == 1:
                axes.set_title("\n".join(textwrap.wrap(called[lines[0][0].name], 26)) + base_name, fontsize=8)
            else:
                axes.legend(frameon=False, fontsize=7)
            _radius_axis(axes, sorted({radius for row in rows for radius, _ in band_curve(row)}))
        for axes in panels[len(drawn) - len(gains) : len(drawn)][:1]:  # whose axis the others share
            low, high = axes.get_ylim()
            if high - low < _LEAST:
                axes.set_ylim((low + high - _LEAST) / 2, (low + high + _LEAST) / 2)
        for axes in panels[len(drawn) :]:
            axes.set_axis_off()
        figure.supxlabel("radius of the band around true borders (px)", fontsize=8)
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


def _points(axes: Axes, value: float, _: object = None) -> str:
    """A tick of differences, all of them with as many decimals as the finest needs."""
    finest = max(len(f"{tick:.4f}".rstrip("0").partition(".")[2]) for tick in axes.get_yticks())
    return number(value, max(1, finest), signed=True) if round(value, 6) else "0"


def _radius_axis(axes: Axes, radii: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(radii, [str(radius) for radius in radii])
    axes.set_xticks([], minor=True)
    axes.grid(color="#eceef0", linewidth=0.6)
    axes.set_axisbelow(True)


def _by_radius(row: StudyRow, seed: int) -> dict[int, float]:
    areas = row.runs[seed].boundary_areas
    assert areas is not None  # `rows_with_areas`
    totals = {radius: areas.band(radius).total() for radius in areas.radii}
    return {radius: 100 * float(total.mean_iou()) for radius, total in totals.items() if total.true.any()}
