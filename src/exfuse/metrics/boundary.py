"""Where the errors are: near the borders of objects or inside them. numpy in, numpy out.

**Bands (trimaps).** The band of radius r holds the labelled pixels within r px (Euclidean, from centre to centre) of a pixel
with another label; the interior holds the others. Void counts as a label here. That is the literature's convention: on VOC,
whose contours between objects are void, DeepLab (after Kohli et al. 2009 and Krähenbühl & Koltun 2011) scores the pixels within
a distance of the void label. So a band begins where the labelled region ends, and its width does not depend on how wide the
annotators drew the contour; the rim of a larger void area, such as that of an object too difficult to label, is a border too.
Where masks have no void contours the same rule measures to the pixels of the other class. The image's edge is no border. Void
pixels are in no band and no interior.

**Boundary IoU** (Cheng et al. 2021): IoU of what lies within d of its mask's own contour, in the truth and in the prediction,
d = 2 % of the image's diagonal. As in its authors' code, d counts erosions by 3 x 3 (so it is a chessboard distance), the
image's edge is a contour, and here the pixels of all images are added up before dividing, as in mIoU. It compares two contours,
so the truth's must have a place: void takes the label of the nearest labelled pixel, which draws it along the middle of a void
contour. The void pixels themselves are not counted.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from exfuse.metrics.boundary_areas import RADII
from exfuse.metrics.iou import Areas
from exfuse.palette import VOID

Ids = NDArray[np.uint8]

DIAGONAL_SHARE = 0.02  # Cheng et al.


class Edges(NamedTuple):
    """What is known of a mask before any prediction.

    Attributes:
        ring: (H, W) uint8, how many of the radii do not reach the pixel: 0 within the first, ``len(radii)`` beyond the last.
        boundary: (H, W) bool, within d of the contour of its own region; see boundary IoU.
        width: d in px.
    """

    ring: NDArray[np.uint8]
    boundary: NDArray[np.bool_]
    width: int


def find_edges(truth: Ids, radii: Sequence[int] = RADII) -> Edges:
    """Prepare one mask (H, W) with 255 for void; ``radii`` in whole px up to 400, ascending, at most 254 of them."""
    width = boundary_width(*truth.shape)
    distance = border_distance(truth)
    ring = np.zeros(truth.shape, np.uint8)
    for radius in radii:
        ring += distance > math.sqrt(radius**2 + 0.5)  # squares are whole numbers
    return Edges(ring, boundary_region(fill_void(truth), width), width)


class ImageCounts(NamedTuple):
    """What is counted of one image.

    Attributes:
        confusion: (C, C) int64, row = true class, column = predicted class.
        areas: by ring, and last those of boundary IoU: (rings + 1, C) each, see `exfuse.metrics.boundary_areas.BoundaryAreas`.
    """

    confusion: NDArray[np.int64]
    areas: Areas


def count_image(predicted: Ids, truth: Ids, edges: Edges, classes: int, rings: int = len(RADII) + 1) -> ImageCounts:
    """All that is counted of one image, in one pass over its pixels.

    Args:
        predicted: (H, W) ids in 0..C-1.
        truth: (H, W) ids in 0..C-1, 255 for void.
        edges: of the truth.
        classes: number of classes C.
        rings: one more than there are radii.
    """
    near_predicted = boundary_region(predicted, edges.width)
    code = edges.ring.astype(np.int32)  # everything that matters of a pixel as one number, so that one pass counts it all
    for ids, number in (
        (np.minimum(truth, classes), classes + 1),
        (predicted, classes),
        (edges.boundary, 2),
        (near_predicted, 2),
    ):
        code = code * number + ids
    shape = (rings, classes + 1, classes, 2, 2)
    counts = np.bincount(code.ravel(), minlength=math.prod(shape)).reshape(shape)[:, :classes]  # without void's row
    confusion = counts.sum((-2, -1))
    by_ring = Areas.of_counts(confusion)
    both, true, guessed = counts[..., 1, 1].sum(0), counts[..., 1, :].sum((0, -1)), counts[..., 1].sum((0, -1))
    near = (np.diagonal(both), true.sum(1), guessed.sum(0))
    areas = Areas(*(np.vstack([rings_of, of_boundary]) for rings_of, of_boundary in zip(by_ring, near, strict=True)))
    return ImageCounts(confusion.sum(0), areas)


def border_distance(ids: Ids) -> NDArray[np.float32]:
    """Distance of each labelled pixel to the nearest pixel with another id, in px; infinite if there is none, and at void.

    A nearest pixel with another id touches the pixel's own region, so each id is measured within the smallest box
    around its pixels and their neighbours. See `_distance` for the last bit.
    """
    distance = np.full(ids.shape, np.inf, np.float32)
    for id in _labels(ids):
        here = ids == id
        if here.all():
            break
        box = _box_around(here)
        np.copyto(distance[box], _distance(here[box]), where=here[box])
    return distance


def fill_void(truth: Ids) -> Ids:
    """The mask with each void pixel given the label of the nearest labelled one, the least of several."""
    void = truth == VOID
    if not void.any() or void.all():
        return truth
    completed = truth.copy()
    box = _box_around(void)  # the nearest labelled pixel touches void
    part, void = completed[box], void[box]
    labels = _labels(part)
    # whole numbers again, or a last bit would decide between equally near labels
    squares = [np.rint(np.square(_distance(part != label)[void], dtype=np.float64)) for label in labels]
    part[void] = labels[np.argmin(squares, 0)]
    return completed


def _labels(ids: Ids) -> Ids:
    """The ids that occur, ascending, without void."""
    return np.flatnonzero(cv2.calcHist([ids], [0], None, [256], [0, 256])[:VOID]).astype(np.uint8)


def _distance(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Of each pixel of ``inside`` to the nearest one outside, of which there must be one, in px; 0 outside.

    The last bit of OpenCV's float32 distances depends on where in memory they come to lie. Their squares are whole numbers,
    which rounding restores up to distances of 1,400 px or so.
    """
    return cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float32, copy=False)


def boundary_width(height: int, width: int) -> int:
    """d of boundary IoU in px, at least 1."""
    return max(1, round(DIAGONAL_SHARE * math.hypot(height, width)))


def boundary_region(ids: Ids, width: int) -> NDArray[np.bool_]:
    """Pixels that ``width`` erosions by 3 x 3 would take from the region of their id, for all ids at once.

    They are those with another id, or the outside of the image, among the (2 * width + 1)^2 pixels around them.
    """
    window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    region = (cv2.erode(ids, window) != ids) | (cv2.dilate(ids, window) != ids)
    region[:width] = region[-width:] = True
    region[:, :width] = region[:, -width:] = True
    return region


def _box_around(here: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(here.any(1)), np.flatnonzero(here.any(0))
    return tuple(slice(max(0, found[0] - 1), found[-1] + 2) for found in (rows, columns))  # type: ignore[return-value]
