"""Embedded default data set: textured scenes, each drawn from (seed, split, index), with its mask.

It needs no download and still asks what the paper asks of a segmentation network: fine structures, occlusion and
object boundaries want resolution; look-alikes, drawn by one function and told apart only by the region around them,
want context.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from exfuse.data.scenes_canvas import Rng, Sprite
from exfuse.data.scenes_objects import CLASSES, KINDS, Kind
from exfuse.data.scenes_surroundings import draw_regions, expose, paint_background
from exfuse.palette import VOID
from exfuse.randomness import derive_seed

SMALLEST = 64
MARGIN = 4  # pixels around an object's footprint that must lie in its region, so that the context can be seen


@dataclass(frozen=True)
class Placed:
    """An object in a scene: ``top`` and ``left`` of its sprite in pixels, negative where the image cuts it off."""

    sprite: Sprite
    kind: Kind
    region: int
    top: int
    left: int

    @property
    def class_id(self) -> int:
        return CLASSES.index(self.kind.names[self.region])

    @property
    def bottom(self) -> int:
        return self.top + self.sprite.coverage.shape[0]


@dataclass(frozen=True)
class Scene:
    """A scene with what its masks do not tell.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        ids: uint8 (H, W), class ids and VOID.
        regions: uint8 (H, W), the background before any object: SKY, LAND or WATER.
        objects: those that were painted, from back to front.
    """

    image: np.ndarray
    ids: np.ndarray
    regions: np.ndarray
    objects: tuple[Placed, ...]


def draw_scene(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw image ``index`` of ``split``: a function of these arguments alone, however many images are asked for.

    Returns:
        RGB image, uint8 (H, W, 3), and class ids, uint8 (H, W), with 255 for void. The longer side is ``size``, the
        other one at least 3/4 of it.

    Raises:
        ValueError: if ``size`` is below 64 pixels, where the objects become too small to label.
    """
    scene = compose_scene(seed, split, index, size)
    return scene.image, scene.ids


def compose_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """Draw a scene and keep its regions and objects; arguments and errors as in :func:`draw_scene`."""
    if size < SMALLEST:
        raise ValueError(f"scenes need a size of at least {SMALLEST} pixels, got {size}")
    words = [derive_seed("scenes", seed, split, index, word) for word in range(4)]  # 128 bits: no two scenes alike
    rng = np.random.default_rng(words)
    height, width = size, round(size * rng.uniform(0.75, 1))
    if rng.random() < 0.6:
        height, width = width, height
    regions = draw_regions(rng, height, width)
    image = paint_background(rng, regions)

    shares = np.array([kind.share for kind in KINDS])
    placed = []
    for choice in rng.choice(len(KINDS), size=rng.integers(9, 17), p=shares / shares.sum()):
        kind = KINDS[choice]
        sprite = kind.draw(rng, size)  # before the region is drawn: nothing in it can depend on the class
        region = int(rng.choice(list(kind.names)))
        corner = _find_room(rng, regions == region, sprite.coverage.shape, kind.footprint)
        if corner is not None:
            placed.append(Placed(sprite, kind, region, *corner))
    placed.sort(key=lambda one: one.bottom)  # what stands lower in the image is nearer

    ids = np.zeros((height, width), dtype=np.uint8)
    painted = _paint_objects(image, ids, placed)
    return Scene(expose(rng, image), ids, regions, painted)


def _find_room(rng: Rng, inside: np.ndarray, shape: tuple[int, ...], footprint: float) -> tuple[int, int] | None:
    """Choose (top, left) for a sprite of ``shape`` so that its footprint and margin keep to ``inside``, bool (H, W).

    The middle of the footprint lies in the image, the rest may be cut off. None if there is no room.
    """
    rows, columns = round(shape[0] * footprint) + 2 * MARGIN, shape[1] + 2 * MARGIN
    room = cv2.erode(inside.astype(np.uint8), np.ones((rows, columns), np.uint8))  # beyond the image counts as inside
    candidates = np.flatnonzero(room)
    if not candidates.size:
        return None
    y, x = divmod(int(rng.choice(candidates)), inside.shape[1])
    bottom = y - rows // 2 + rows - MARGIN
    return bottom - shape[0], x - columns // 2 + MARGIN


def _paint_objects(image: np.ndarray, ids: np.ndarray, placed: list[Placed]) -> tuple[Placed, ...]:
    """Paint from back to front into ``image``, float32 (H, W, 3), and ``ids``, uint8 (H, W), both changed in place.

    An object that would hide more than 60 % of another one is left out; the painted ones are returned.
    """
    height, width = ids.shape
    owner = np.zeros((height, width), dtype=np.int64)  # 0: background; i: the i-th painted object
    areas: list[int] = []
    painted: list[Placed] = []
    for one in placed:
        columns = one.sprite.coverage.shape[1]
        y0, x0, y1, x1 = max(one.top, 0), max(one.left, 0), min(one.bottom, height), min(one.left + columns, width)
        cut = np.s_[y0 - one.top : y1 - one.top, x0 - one.left : x1 - one.left]
        coverage, here = one.sprite.coverage[cut], np.s_[y0:y1, x0:x1]
        solid = coverage >= 0.5

        left_over = np.bincount(owner.ravel(), minlength=len(areas) + 1)
        left_over -= np.bincount(owner[here][solid], minlength=len(areas) + 1)
        if not solid.any() or (left_over[1:] < 0.4 * np.array(areas)).any():
            continue
        painted.append(one)
        areas.append(int(solid.sum()))
        owner[here][solid] = len(areas)

        image[here] = image[here] * (1 - coverage[..., None]) + one.sprite.colour[cut]
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[here] = solid
        reach = 1 if one.sprite.thin else 2  # a wider band would leave nothing between the rails of a fence
        band = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
        ids[band > 0] = VOID
        ids[mask > 0] = one.class_id
    return tuple(painted)
