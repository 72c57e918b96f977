"""Which classes the masks of a split label, and how much of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from exfuse.data.contents import contents
from exfuse.data.pixels import class_table, look_at_mask
from exfuse.data.split import Split
from exfuse.data.subsets import seen_groups
from exfuse.errors import DataError, plural, some
from exfuse.palette import VOID
from exfuse.terminal import RichTable, table_columns

_SHOWN = 8  # names in a line
_MOST_PADDING = 0.5  # of the crops' pixels, chosen: VOC's images under its usual recipe have a third
_FACTORS = 33  # of scale, for a mean over all of them


class Census(NamedTuple):
    """What a split labels.

    Attributes:
        pixels: (C,) int64, by class.
        images: (C,) int64, in how many of them a class occurs.
        void: number of pixels that are neither trained on nor scored.
        ids: that occur in the files.
    """

    pixels: NDArray[np.int64]
    images: NDArray[np.int64]
    void: int
    ids: frozenset[int]

    @property
    def labelled(self) -> list[int]:
        """Ids of the classes that occur."""
        return np.flatnonzero(self.pixels).tolist()


def count_classes(split: Split) -> Census:
    """Count the pixels of every mask of a split, by class; each mask is read once, see `exfuse.data.contents`."""
    pixels, images = np.zeros((2, len(split.classes)), dtype=np.int64)
    void, ids = 0, set[int]()
    table = class_table(len(split.classes), split.void_ids, split.ids)
    for mask in contents([item.mask for item in split.items], look_at_mask):
        counts = mask.looks[look_at_mask.__name__].counts
        ids |= counts.keys()
        for id, number in counts.items():
            if (place := table[id]) == VOID:
                void += number
            else:
                pixels[place] += number
                images[place] += 1
    return Census(pixels, images, void, frozenset(ids))


def check_labels(split: Split) -> None:
    """Refuse a split whose masks tell no two classes apart: nothing could be learnt from it or scored on it.

    A listed class that does not occur is no mistake.

    Raises:
        DataError: saying what its masks hold instead.
    """
    census = count_classes(split)
    if len(census.labelled) > 1:
        return
    if census.ids == {0, VOID}:
        raise DataError(
            f"{split.name}: its masks hold 0 and 255 alone, as usual for masks of one class against the rest, but 255 is void "
            f"here: nothing but {split.classes[0]} would be learnt. Name two classes and say that they "
            "are these: data.ids=[0,255] data.void_ids=[] of data=folder, ids= and void_ids= of make_split in your own reader."
        )
    only = f"{split.classes[census.labelled[0]]} alone" if census.labelled else "nothing, all pixels are void"
    raise DataError(
        f"{split.name}: its masks label {only}, of the {len(split.classes)} listed classes ({some(split.classes, _SHOWN)}). At "
        "least two must occur. Check the ids in the masks, the order of the class list and data.void_ids."
    )


def census_lines(split: Split) -> list[str]:
    """What a split labels in a line, and what a reader should know of it, each in one more."""
    census = count_classes(split)
    absent = [name for name, number in zip(split.classes, census.pixels, strict=True) if not number]
    share = 100 * census.void / max(1, census.void + int(census.pixels.sum()))
    found = f"{len(split.classes) - len(absent)} of {plural(len(split.classes), 'class')}"
    groups = "" if split.grouping.alone else f" in {plural(len({*split.grouping.groups}), 'group')}"
    groups += ", each in its order" if groups and split.ordered else ""
    lines = [f"{split.name}: {plural(len(split), 'image')}{groups}, {found} labelled, {share:.1f} % void"]
    if absent:
        lines.append(f"Warning: no mask of {split.name} labels {some(absent, _SHOWN)}.")
    if len(split) == 1:
        lines.append(f"Warning: {split.name} is one image, which says nothing of others: intervals are over seeds alone.")
    if split.left_out:
        lines.append(f"Warning: {split.name} leaves out {split.left_out}.")
    return lines


def group_lines(train: Split, scored: Split) -> list[str]:
    """A line if images that are scored are of groups that training sees; else none."""
    if not (seen := seen_groups(train, scored)):
        return []
    return [
        f"Warning: {plural(len(seen), 'group')} of {scored.name} {'has' if len(seen) == 1 else 'have'} images in {train.name}, "
        f"too ({some(seen)}): scores are of groups that training saw, and may be better than of new ones."
    ]


def padding_lines(split: Split, crop: int, scale: Sequence[float], long_side: int | None) -> list[str]:
    """A line if most of what random crops of a split show is padding, which teaches nothing; else none.

    Args:
        crop: side of the square, in pixels.
        scale: least and greatest random factor, each between as likely, of a side ``long_side`` long; None: of its own size.
    """
    masks = contents([item.mask for item in split.items], look_at_mask)
    sizes = np.array([mask.looks[look_at_mask.__name__].size for mask in masks])
    longer = sizes.max(1, keepdims=True)
    sides = sizes * (long_side / longer if long_side else 1.0)
    factors = np.linspace(scale[0], scale[1], _FACTORS)
    padding = 1 - float(np.mean([np.minimum(crop, factor * sides).prod(1) for factor in factors])) / crop**2
    if padding <= _MOST_PADDING:
        return []
    side = f"{long_side} px after recipe.long_side" if long_side else f"{np.median(longer):.0f} px"
    return [
        f"Warning: {100 * padding:.0f} % of what crops of {crop} px show of {split.name} is padding: its images' longer sides "
        f"are {side}, scaled by {scale[0]:g} to {scale[1]:g}. Choose a smaller recipe.augmentation.crop, or a recipe.long_side."
    ]


def census_table(split: Split) -> RichTable:
    """Pixels and images of every class, and void."""
    census, title = count_classes(split), Text(f"{split.name}, {plural(len(split), 'image')}")
    table = RichTable(*table_columns(("id", "class", "pixels", "%", "images"), ["class"]), title=title)
    total = max(1, census.void + int(census.pixels.sum()))
    for id, name in enumerate(split.classes):
        pixels = int(census.pixels[id])
        table.add_row(str(id), Text(name), f"{pixels:,}", f"{100 * pixels / total:.2f}", f"{census.images[id]:,}")
    table.add_row("", "void", f"{census.void:,}", f"{100 * census.void / total:.2f}", "")
    return table
