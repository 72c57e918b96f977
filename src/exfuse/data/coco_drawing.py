"""COCO's instances painted into masks of VOC's classes.

The only file that knows pycocotools.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exfuse.errors import DataError, needing
from exfuse.palette import VOID

# COCO's name of a category where it is not VOC's.
_COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
_PERSON = "person"


class Instance(NamedTuple):
    """One annotation of COCO.

    Attributes:
        id: of the annotation.
        label: class id in 0..C-1.
        crowd: whether it outlines a group without telling its members apart.
        shape: a list of polygons ``[x0, y0, x1, y1, ...]`` in pixels, or a run-length encoding ``{"size", "counts"}``.
    """

    id: int
    label: int
    crowd: bool
    shape: Any


def class_ids(categories: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> dict[int, int]:
    """Which of ``classes`` each of COCO's category ids is, by name; categories that are none of them are left out.

    Args:
        categories: of an annotation file, each with ``id`` and ``name``.
        classes: names of the ids 0..C-1, the first being the background.

    Raises:
        DataError: if a class has no category: the file is then no annotation file of COCO's 80 categories.
    """
    ids = {category["name"]: int(category["id"]) for category in categories}
    wanted = {label: _COCO_NAMES.get(name, name) for label, name in enumerate(classes) if label > 0}
    if missing := [name for name in wanted.values() if name not in ids]:
        raise DataError(f"COCO's annotations name no category {missing[0]!r} ({len(missing)} of {len(wanted)} are missing).")
    return {ids[name]: label for label, name in wanted.items()}


def rasterise(instances: Iterable[Instance], height: int, width: int, person: int | None) -> NDArray[np.uint8]:
    """Paint instances into one (height, width) mask: class ids, 0 where nothing is, 255 for void.

    Where several cover a pixel, the one painted last has it. In this order they are painted:

    1. things that are no persons, from the largest to the smallest, so that a cup-sized thing on a table survives;
    2. persons, from the largest to the smallest: COCO does not say who is in front, and a person who sits on, rides or holds
       a thing mostly is, while the thing's outline often runs across them;
    3. crowd regions, as void: what they hold is known only roughly.

    The size is the number of pixels that an instance covers; of two that are equal, the later annotation is painted later.
    Polygons of fewer than three points have no area and are left out. COCO draws no void border as VOC does; none is made up.

    Args:
        instances: of one image.
        height, width: of the image in pixels.
        person: the class id that goes first; None if there is none.

    Raises:
        DataError: if a shape is neither polygons nor a run-length encoding of this size.
    """
    covered = [(instance, covered_by(instance, height, width)) for instance in instances]

    def order(pair: tuple[Instance, NDArray[np.bool_]]) -> tuple[bool, bool, int, int]:
        instance, cover = pair
        return instance.crowd, instance.label == person, -int(cover.sum()), instance.id

    mask = np.zeros((height, width), dtype=np.uint8)
    for instance, cover in sorted(covered, key=order):
        mask[cover] = VOID if instance.crowd else instance.label
    return mask


def person_id(classes: Sequence[str]) -> int | None:
    """The class id of persons, if there are any."""
    return list(classes).index(_PERSON) if _PERSON in classes else None


def covered_by(instance: Instance, height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels an instance covers, (height, width)."""
    tool, shape = pycocotools_mask(), instance.shape
    try:
        if isinstance(shape, list):
            polygons = [polygon for polygon in shape if len(polygon) >= 6]
            if not polygons:
                return np.zeros((height, width), dtype=bool)
            encoded = tool.merge(tool.frPyObjects(polygons, height, width))
        else:
            if list(shape["size"]) != [height, width]:
                raise ValueError(f"a run-length encoding of size {shape['size']} in an image of {[height, width]}")
            runs = shape["counts"]
            if isinstance(runs, list) and (min(runs, default=0) < 0 or sum(runs) != height * width):
                raise ValueError(f"runs of {sum(runs)} pixels in an image of {height * width}")
            encoded = tool.frPyObjects(shape, height, width) if isinstance(runs, list) else shape
            if not isinstance(runs, list):  # too few are decoded to whatever lies in memory
                known = tool.encode(np.asfortranarray(tool.decode(encoded)))["counts"]
                if known != (runs if isinstance(runs, bytes) else str(runs).encode()):
                    raise ValueError("a run-length encoding that does not fill the image")
        return tool.decode(encoded).astype(bool)
    except Exception as error:  # pycocotools raises whatever its parser stumbles over
        raise DataError(f"annotation {instance.id} has a shape that cannot be drawn ({error!r}).") from error


def pycocotools_mask() -> ModuleType:
    """The module ``pycocotools.mask``.

    Raises:
        DataError: if it is not installed.
    """
    with needing("coco", "drawing COCO's masks", DataError):
        from pycocotools import mask
    return mask
