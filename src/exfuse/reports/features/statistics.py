"""Numbers of one map in one image and their sums over images, by the truth at the map's size. See the package's docstring."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from exfuse.palette import VOID


class Borders(NamedTuple):
    """The truth at its own size: ids (H, W) uint8, thin void filled; edges (H, W) bool; near (H, W) bool, within the band."""

    ids: NDArray[np.uint8]
    edges: NDArray[np.bool_]
    near: NDArray[np.bool_]


class Regions(NamedTuple):
    """The truth at a map's size: classes (h, w) int64 with 255 for void, band (h, w) bool."""

    classes: Tensor
    band: Tensor

    @property
    def labelled(self) -> Tensor:
        """Cells that have a class, (h, w) bool."""
        return self.classes != VOID

    def named(self) -> dict[str, Tensor]:
        """Labelled cells of the band and of the interior, (h, w) bool each."""
        return {"band": self.band & self.labelled, "interior": ~self.band & self.labelled}


def find_borders(truth: NDArray[np.uint8], band: float) -> Borders:
    """Edges of a truth (H, W) of ids with 255 for void, and the pixels within ``band`` pixels of them."""
    ids = _fill(truth, band)
    edges = np.zeros(ids.shape, dtype=bool)
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        meet = (ids[here] != ids[there]) & (ids[here] != VOID) & (ids[there] != VOID)
        edges[here] |= meet
        edges[there] |= meet
    near = ndimage.distance_transform_edt(~edges) <= band if edges.any() else edges
    return Borders(ids, edges, near)


def scale_to(borders: Borders, size: tuple[int, int]) -> Regions:
    """The regions of a map of ``size`` (h, w): each cell stands for its rectangle of the truth, of whatever ratio."""
    near = F.adaptive_max_pool2d(torch.from_numpy(borders.near)[None].float(), size)[0] > 0
    present = [int(id) for id in np.unique(borders.ids) if id != VOID]
    if not present:
        return Regions(torch.full(size, VOID), near)
    one_hot = torch.from_numpy(np.stack([borders.ids == id for id in present])).float()
    shares = F.adaptive_avg_pool2d(one_hot, size)  # (classes present, h, w)
    classes = torch.tensor(present)[shares.argmax(0)]
    classes[shares.sum(0) < 0.5 - 1e-6] = VOID
    return Regions(classes, near)


def _fill(truth: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """Give void pixels within ``reach`` of a labelled one its class: VOC draws a line of void along every border."""
    void = truth == VOID
    if not void.any() or void.all():
        return truth
    distance, nearest = ndimage.distance_transform_edt(void, return_indices=True)
    return np.where(distance <= reach, truth[tuple(nearest)], truth).astype(np.uint8)


# Numbers of one map in one image, and sums over images; the package's docstring says what each means.

_NOTHING = 1e-12  # a share of a sum of squares below this is rounding
NAN = math.nan


class Moments(NamedTuple):
    """Cells, sums and sums of squares of each class: (K,), (K, C), (K, C) float64. They add up over images."""

    cells: Tensor
    sums: Tensor
    squares: Tensor

    def plus(self, other: "Moments") -> "Moments":
        """The moments of both sets of cells."""
        return Moments(self.cells + other.cells, self.sums + other.sums, self.squares + other.squares)

    def _variances(self) -> tuple[Tensor, Tensor] | None:
        """Sums of squares between and within classes, (C,) each; None unless two classes have cells."""
        there = self.cells > 0
        cells, sums = self.cells[there, None], self.sums[there]
        if len(cells) < 2:
            return None
        squares = self.squares.sum(0)
        of_classes = (sums**2 / cells).sum(0)
        between = of_classes - sums.sum(0) ** 2 / cells.sum()
        within = squares - of_classes
        return tuple(torch.where(part > _NOTHING * squares, part, 0.0) for part in (between, within))  # type: ignore[return-value]

    def fisher(self) -> float:
        """Variance between classes over variance within; not a number with one class, or where nothing varies within."""
        variances = self._variances()
        if variances is None or (within := float(variances[1].sum())) == 0:
            return NAN
        return float(variances[0].sum()) / within

    def class_share(self) -> float:
        """Mean over the channels that vary of between / (between + within); not a number with one class or no such channel."""
        variances = self._variances()
        if variances is None:
            return NAN
        total = variances[0] + variances[1]
        return float((variances[0][total > 0] / total[total > 0]).mean()) if (total > 0).any() else NAN


def class_moments(values: Tensor, regions: Regions, cells: Tensor, classes: int) -> Moments:
    """Moments of ``values`` (C, h, w) over ``cells`` (h, w) bool, by the class of the cell."""
    chosen = values[:, cells].double().T  # (N, C)
    ids = regions.classes[cells]
    shape = (classes, values.shape[0])
    return Moments(
        torch.bincount(ids, minlength=classes).double(),
        chosen.new_zeros(shape).index_add_(0, ids, chosen),
        chosen.new_zeros(shape).index_add_(0, ids, chosen**2),
    )


def map_statistics(values: Tensor, regions: Regions, classes: int) -> tuple[dict[str, float], dict[str, Moments]]:
    """Statistics of one map (C, h, w) by name, and its moments in the band and in the interior.

    A number that this image does not give (no edge, no interior, one class) is not a number.
    """
    energy = values.double().square().sum(0).sqrt()
    named = regions.named()
    mean = {region: _mean(energy[cells]) for region, cells in named.items()}
    across, alike, inside = _steps(energy, regions)
    found = {f"energy_{region}": value for region, value in mean.items()}
    found["energy_ratio"] = _ratio(mean["band"], mean["interior"])
    found["contrast"] = _ratio(across, alike)
    found["roughness"] = _ratio(inside, mean["interior"])
    moments = {region: class_moments(values, regions, cells, classes) for region, cells in named.items()}
    found |= {f"fisher_{region}": one.fisher() for region, one in moments.items()}
    found |= {f"class_share_{region}": one.class_share() for region, one in moments.items()}
    return found, moments


def branch_statistics(branch: Tensor | None, regions: Regions, classes: int) -> dict[str, float]:
    """Statistics of what SEB multiplies by or adds, (C, h, w), by name; not numbers without a branch."""
    if branch is None:
        return dict.fromkeys(BRANCH, NAN)
    values = branch.double()
    by_cell = values.mean(0)
    found = {f"branch_{region}": _mean(by_cell[cells]) for region, cells in regions.named().items()}
    found |= variance_shares(values)
    found["branch_class"] = class_moments(values, regions, regions.labelled, classes).class_share()
    return found


def variance_shares(values: Tensor) -> dict[str, float]:
    """Two-way analysis of variance of (C, h, w): the shares of channels, of cells and of the rest, which add to 1."""
    mean = values.mean()
    total = float(((values - mean) ** 2).sum())
    if total <= _NOTHING * float((values**2).sum()):
        return dict.fromkeys(("branch_channel", "branch_mask", "branch_specific"), NAN)
    channels, cells = values.shape[0], values[0].numel()
    channel = float(((values.mean((1, 2)) - mean) ** 2).sum()) * cells / total
    mask = float(((values.mean(0) - mean) ** 2).sum()) * channels / total
    return {"branch_channel": channel, "branch_mask": mask, "branch_specific": max(0.0, 1 - channel - mask)}


def _steps(energy: Tensor, regions: Regions) -> tuple[float, float, float]:
    """Mean absolute step between neighbours: of different classes; of one class; of one class with both in the interior."""
    across, alike, inside = [], [], []
    for axis in (0, 1):
        length = energy.shape[axis] - 1
        here, there = (regions.classes.narrow(axis, start, length) for start in (0, 1))
        step = energy.diff(dim=axis).abs()
        known = (here != VOID) & (there != VOID)
        band = regions.band.narrow(axis, 0, length) | regions.band.narrow(axis, 1, length)
        across.append(step[known & (here != there)])
        alike.append(step[known & (here == there)])
        inside.append(step[known & (here == there) & ~band])
    return _mean(torch.cat(across)), _mean(torch.cat(alike)), _mean(torch.cat(inside))


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else NAN


def _ratio(one: float, other: float) -> float:
    return one / other if other > 0 else NAN  # not a number is never above 0


CLASS_STATISTICS = tuple(f"{kind}_{region}" for kind in ("fisher", "class_share") for region in ("band", "interior"))
MAP = ("energy_band", "energy_interior", "energy_ratio", "contrast", "roughness", *CLASS_STATISTICS)
BRANCH = ("branch_band", "branch_interior", "branch_channel", "branch_mask", "branch_specific", "branch_class")
