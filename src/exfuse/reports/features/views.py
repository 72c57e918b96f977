"""From a tapped level to the arrays that its picture shows; before and after always share basis and scale."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def view(tapped: Tapped) -> LevelView:
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
