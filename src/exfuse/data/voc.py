"""PASCAL VOC devkit layout: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/{train,val}.txt."""

from collections.abc import Sequence
from pathlib import Path

from exfuse.data.split import Item, Split, make_split
from exfuse.data.text import read_groups, read_ids
from exfuse.errors import DataError
from exfuse.limits import Counts, Orientation
from exfuse.store.grouping import COLUMN

_HINT = (
    "Set data.root to the folder that holds VOC2012 (usually .../VOCdevkit/VOC2012), or run `make data-voc` to fetch "
    "PASCAL VOC 2012 (2 GB)."
)


def read_voc(
    root: str | Path,
    split: str,
    classes: Sequence[str],
    counts: Counts | None = None,
    name: str = "VOC",
    orientation: Orientation = "refuse",
    groups: str | None = None,
    ordered: bool = False,
) -> Split:
    """Read one split of a data set in VOC layout.

    Args:
        root: folder that holds JPEGImages, SegmentationClass and ImageSets.
        split: name of a list in ImageSets/Segmentation, such as train or val.
        classes: names of the ids 0..C-1; 255 is void.
        counts: how many images each split of a complete copy has, to be asserted; None where any number will do.
        name: of the data set, for messages.
        orientation: see `make_split`.
        groups, ordered: which images are not independent, see `exfuse.store.grouping.GroupRule`; ``column`` is the second of
            the list.

    Raises:
        DataError: see `make_split`; or if ``root`` is not in this layout.
    """
    root = Path(root)
    for folder in ("JPEGImages", "SegmentationClass"):
        if not (root / folder).is_dir():
            raise DataError(f"{name} data not found: no folder {root / folder}.\n{_HINT}")
    path, count = root / "ImageSets" / "Segmentation" / f"{split}.txt", (counts or {}).get(split)
    by_id = read_groups(path, _HINT) if groups == COLUMN else groups
    items = [voc_item(root, id) for id in (by_id if isinstance(by_id, dict) else read_ids(path, _HINT))]
    return make_split(f"{name} {split}", items, classes, count=count, orientation=orientation, groups=by_id, ordered=ordered)


def voc_item(root: Path, id: str) -> Item:
    """Where VOC layout keeps an image and its mask."""
    return Item(id, root / "JPEGImages" / f"{id}.jpg", root / "SegmentationClass" / f"{id}.png")
