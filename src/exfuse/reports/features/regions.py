"""The truth at a map's size: which cells lie at class borders, and of which class each cell is. See the package's docstring."""

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
