"""Pictures of maps before and after SEB, and the arrays that they show: both always share basis and scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from scipy import ndimage

from exfuse.analysis.figures import style
from exfuse.analysis.pictures import draw_legend
from exfuse.palette import class_palette
from exfuse.reports.features.statistics import Borders
from exfuse.reports.features.taps import Tapped

Map = NDArray[np.float64]
_CHANNELS = 3  # shown, of those that change most
_CLIPPED = 1.0  # percent of the values at either end that a colour scale leaves out


@dataclass(frozen=True)
class Pair:
    """The same quantity before and after, (h, w) or (h, w, 3) for colours in [0, 1], on the scale from ``low`` to ``high``."""

    title: str
    before: Map
    after: Map
    low: float
    high: float


@dataclass(frozen=True)
class LevelView:
    """What the picture of one level shows.

    Attributes:
        energy: L2 norm over channels.
        gradient: magnitude of the energy's gradient, in energy per cell.
        colours: the first three principal components as red, green, blue.
        channels: those whose values change most (L2 norm of after - before), largest change first.
        kind, branch: what SEB multiplies by or adds, mean over channels (h, w); None if nothing.
        change: log2 of the energy after over the energy before, (h, w); not a number where either is zero.
    """

    name: str
    energy: Pair
    gradient: Pair
    colours: Pair
    channels: tuple[Pair, ...]
    kind: str
    branch: Map | None
    change: Map


def level_view(tapped: Tapped) -> LevelView:
    """The arrays of one level."""
    before, after = tapped.before.cpu().double().numpy(), tapped.after.cpu().double().numpy()
    energies = [np.sqrt((values**2).sum(0)) for values in (before, after)]
    changes = np.sqrt(((after - before) ** 2).sum((1, 2)))
    chosen = np.argsort(-changes, kind="stable")[:_CHANNELS]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log2(energies[1] / energies[0])
    return LevelView(
        name=tapped.name,
        energy=_pair("energy", energies[0], energies[1], low=0.0),
        gradient=_pair("energy's gradient", gradient(energies[0]), gradient(energies[1]), low=0.0),
        colours=Pair("principal components", *principal_colours(before, after), 0.0, 1.0),
        channels=tuple(_pair(f"channel {channel}", before[channel], after[channel]) for channel in chosen),
        kind=tapped.kind,
        branch=None if tapped.branch is None else tapped.branch.cpu().double().numpy().mean(0),
        change=np.where(np.isfinite(change), change, np.nan),
    )


def gradient(values: Map) -> Map:
    """Magnitude of the gradient by central differences, (h, w); zero along an axis of one cell."""
    parts = [np.gradient(values, axis=axis) for axis in (0, 1) if values.shape[axis] > 1]
    return np.sqrt(sum((part**2 for part in parts), np.zeros_like(values)))


def principal_colours(before: Map, after: Map) -> tuple[Map, Map]:
    """Two maps (C, h, w) in the first three principal components of both together, as (h, w, 3) in [0, 1].

    One mean, one basis and one scale for both: equal colours are equal features. A component's sign is arbitrary: its largest
    weight is made positive.
    """
    cells = np.concatenate([values.reshape(len(values), -1) for values in (before, after)], axis=1)
    centred = cells - cells.mean(1, keepdims=True)
    _, vectors = np.linalg.eigh(centred @ centred.T)
    basis = vectors[:, ::-1][:, :3]  # largest first
    basis = basis * np.sign(basis[np.abs(basis).argmax(0), np.arange(basis.shape[1])])
    scores = basis.T @ centred
    scores = np.pad(scores, ((0, 3 - len(scores)), (0, 0)))  # fewer than three channels
    low, high = np.percentile(scores, (_CLIPPED, 100 - _CLIPPED), axis=1, keepdims=True)
    colours = np.clip((scores - low) / np.where(high > low, high - low, 1), 0, 1)
    one, other = np.split(colours, 2, axis=1)
    shape = (*before.shape[1:], 3)
    return one.T.reshape(shape), other.T.reshape(shape)


def _pair(title: str, before: Map, after: Map, low: float | None = None) -> Pair:
    least, most = np.percentile(np.stack([before, after]), (_CLIPPED, 100 - _CLIPPED))
    low = float(least) if low is None else low
    return Pair(title, before, after, low, max(float(most), low + 1e-9))


# Pictures of low-level maps before and after SEB: each level on its own, and all runs of an image side by side.

_PANEL = 1.75  # inches a panel is wide
_EDGES = ListedColormap([style.GREEN])
_EDGE_WIDTH = 160  # pixels of an image for one of its edges' width: thinner could not be seen
_BRANCH = {"factor": (1.0, "SEB's factor"), "addend": (0.0, "SEB's addend")}  # neutral value, title


@dataclass(frozen=True)
class Backdrop:
    """What is drawn once for all runs: the image (H, W, 3) uint8 and, where there is a truth, its borders; names of the ids."""

    name: str
    image: NDArray[np.uint8]
    borders: Borders | None
    classes: Sequence[str]

    @property
    def ratio(self) -> float:
        """Height over width."""
        return self.image.shape[0] / self.image.shape[1]


@dataclass(frozen=True)
class Shown:
    """One run in one image: its title, predicted ids (H, W) and levels."""

    title: str
    prediction: NDArray[np.uint8]
    levels: Sequence[LevelView]


def draw_level(scene: Backdrop, title: str, level: LevelView) -> Figure:
    """One level of one run: before above after on one scale, what SEB multiplied by or added, and the change of energy."""
    with style.look():
        columns = _columns(level, full=True)
        figure = Figure(figsize=(_PANEL * 1.15 * columns, 2 * _PANEL * scene.ratio + 1.2), layout="constrained")
        figure.suptitle(f"{scene.name}: {title}, {level.name} before and after SEB", fontsize=10)
        _draw_block(figure, scene, level, full=True)
    return figure


def draw_overview(scene: Backdrop, runs: Sequence[Shown], left_out: int = 0) -> Figure:
    """Image, truth and predictions above every level of every run; several runs side by side, each on its own scales.

    ``left_out`` says how many runs more there are.
    """
    full = len(runs) == 1
    columns = _columns(runs[0].levels[0], full)
    with style.look():
        width = _PANEL * 1.15 * columns * len(runs)
        block = 2 * _PANEL * scene.ratio + 0.9
        top = 2.1 * scene.ratio + 0.9
        deepest = max(len(run.levels) for run in runs)
        figure = Figure(figsize=(max(width, 7.5), top + block * deepest), layout="constrained")
        head, body = figure.subfigures(2, 1, height_ratios=[top, block * deepest], squeeze=False)[:, 0]
        _draw_head(head, scene, runs)
        more = f" (first {len(runs)} of {len(runs) + left_out} runs)" if left_out else ""
        head.suptitle(scene.name + more, fontsize=11)
        for part, run in zip(np.atleast_1d(body.subfigures(1, len(runs))), runs, strict=True):
            blocks = np.atleast_1d(part.subfigures(deepest, 1))
            for subfigure, level in zip(blocks, run.levels, strict=False):
                subfigure.suptitle(f"{run.title}: {level.name}", fontsize=9, fontweight="bold")
                _draw_block(subfigure, scene, level, full)
    return figure


def _columns(level: LevelView, full: bool) -> int:
    return 4 + len(level.channels) if full else 3


def _draw_head(figure: SubFigure, scene: Backdrop, runs: Sequence[Shown]) -> None:
    panels = [("image", scene.image, False)]
    if scene.borders is not None:
        panels.append(("image, true borders", scene.image, True))
        panels.append(("truth", class_palette(scene.classes)[scene.borders.ids], True))
    colours = class_palette(scene.classes)
    predictions = ["prediction"] if len(runs) == 1 else [f"prediction:\n{run.title.replace('+', chr(10))}" for run in runs]
    panels += [(title, colours[run.prediction], True) for title, run in zip(predictions, runs, strict=True)]
    for axes, (title, picture, with_edges) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=8, y=1)
        axes.set_axis_off()
        if with_edges:
            _draw_edges(axes, scene)
    ids = [run.prediction for run in runs] + ([scene.borders.ids] if scene.borders is not None else [])
    draw_legend(figure, ids, scene.classes)


def _draw_block(figure: Figure | SubFigure, scene: Backdrop, level: LevelView, full: bool) -> None:
    pairs = [level.energy, level.gradient, level.colours, *level.channels] if full else [level.energy, level.colours]
    grid = figure.subplots(2, len(pairs) + 1, squeeze=False)
    for column, pair in enumerate(pairs):
        _draw_pair(figure, (grid[0, column], grid[1, column]), scene, pair, "magma" if pair.low == 0 else "viridis")
    for axes, when in zip(grid[:, 0], ("before", "after"), strict=True):
        axes.text(-0.06, 0.5, when, transform=axes.transAxes, rotation=90, ha="right", va="center", fontsize=9)
    above, below = grid[:, -1]
    if level.branch is None:
        above.text(0.5, 0.5, "no SEB:\nbefore is after", transform=above.transAxes, ha="center", va="center", fontsize=8)
        above.set_axis_off()
    else:
        neutral, title = _BRANCH[level.kind]
        _draw_signed(figure, above, scene, level.branch, neutral, f"{title},\nmean over channels")
    _draw_signed(figure, below, scene, level.change, 0.0, "log2 energy\nafter / before")


def _draw_pair(figure: Figure | SubFigure, axes: tuple[Axes, Axes], scene: Backdrop, pair: Pair, colours: str) -> None:
    for place, values in zip(axes, (pair.before, pair.after), strict=True):
        drawn = _imshow(place, scene, values, cmap=colours, vmin=pair.low, vmax=pair.high)
    axes[0].set_title(pair.title, fontsize=8, y=1)
    if pair.before.ndim == 2:
        _colour_bar(figure, drawn, list(axes))


def _draw_signed(figure: Figure | SubFigure, axes: Axes, scene: Backdrop, values: Map, neutral: float, title: str) -> None:
    distance = np.abs(values[np.isfinite(values)] - neutral)
    half = float(np.percentile(distance, 99)) if distance.size else 0.0
    drawn = _imshow(axes, scene, values, cmap="PuOr_r", norm=CenteredNorm(neutral, half or 1.0))
    axes.set_title(title, fontsize=8, y=1)
    _draw_edges(axes, scene)
    _colour_bar(figure, drawn, [axes])


def _imshow(axes: Axes, scene: Backdrop, values: Map, **arguments: Any) -> AxesImage:
    height, width = scene.image.shape[:2]
    axes.set_axis_off()
    # the map's cells lie over the pixels that they stand for, uninterpolated
    return axes.imshow(values, interpolation="nearest", extent=(-0.5, width - 0.5, height - 0.5, -0.5), **arguments)


def _draw_edges(axes: Axes, scene: Backdrop) -> None:
    if scene.borders is not None:
        width = max(1, max(scene.borders.edges.shape) // _EDGE_WIDTH)
        edges = np.ma.masked_equal(ndimage.maximum_filter(scene.borders.edges, width), False)
        axes.imshow(edges, cmap=_EDGES, interpolation="nearest")


def _colour_bar(figure: Figure | SubFigure, drawn: AxesImage, axes: list[Axes]) -> None:
    bar = figure.colorbar(drawn, ax=axes, location="right", fraction=0.05, pad=0.02, aspect=30 if len(axes) > 1 else 15)
    bar.ax.tick_params(labelsize=6, length=2)
    bar.outline.set_visible(False)  # type: ignore[operator]
