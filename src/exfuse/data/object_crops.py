"""A classification data set out of a segmentation data set: the objects that its masks outline, cut out with their class."""

from collections.abc import Iterator, Sequence

import numpy as np

from exfuse.data.labelled import LabelledItem, LabelledSplit
from exfuse.data.split import Split
from exfuse.limits import NonNegativeFloat, Positive
from exfuse.palette import is_background
from exfuse.terminal import track


def read_object_crops(
    of: Split, minimum_side: Positive, margin: NonNegativeFloat, skip: Sequence[str] = ("background",)
) -> LabelledSplit:
    """One image per connected region of one class.

    Args:
        of: the segmentation split to cut.
        minimum_side: leave out regions whose box has a shorter side than this, in pixels.
        margin: widen a box by this share of its sides on each side, as far as the image goes.
        skip: classes that are no objects, beside a first one that is background.
    """
    other = [name for name in of.classes[:1] if name not in skip and is_background(name)]  # than it is usually called
    skipped = [*skip, *other]
    classes = tuple(name for name in of.classes if name not in skipped)

    def find() -> list[LabelledItem]:
        progress = track(range(len(of)), description=f"Finding objects in {of.name}", transient=True, disable=len(of) < 100)
        return [crop for position in progress for crop in _crops(position, of, classes, minimum_side, margin)]

    def identify() -> str:
        return f"{of.manifest()} {minimum_side} {margin} {skipped}"

    return LabelledSplit(f"objects of {of.name}", classes, find, identify)


def _crops(position: int, of: Split, classes: tuple[str, ...], minimum_side: int, margin: float) -> Iterator[LabelledItem]:
    from scipy import ndimage  # here: a run's key needs the split's manifest alone

    item, mask = of.items[position], of.mask(position)
    height, width = mask.shape
    present = set(np.unique(mask).tolist())
    for label, name in enumerate(classes):
        if (index := of.classes.index(name)) not in present:
            continue
        regions, _ = ndimage.label(mask == index, structure=np.ones((3, 3)))
        for number, (rows, columns) in enumerate(ndimage.find_objects(regions)):
            sides = rows.stop - rows.start, columns.stop - columns.start
            if min(sides) < minimum_side:
                continue
            y, x = (round(margin * side) for side in sides)
            box = (
                max(0, columns.start - x),
                max(0, rows.start - y),
                min(width, columns.stop + x),
                min(height, rows.stop + y),
            )
            yield LabelledItem(f"{item.id}/{name}/{number}", item.image, label, box, item.upright, item.group or item.id)
