"""PASCAL VOC devkit layout: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/{train,val}.txt."""

from collections.abc import Sequence
from pathlib import Path

from exfuse.data.split import Item, Split, check_folders, make_split
from exfuse.data.text import check_ids, read_groups, read_id_list, read_lines
from exfuse.errors import DataError, plural
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
    check_folders(name, (root / "JPEGImages", root / "SegmentationClass"), f"\n{_HINT}")
    path, count = root / "ImageSets" / "Segmentation" / f"{split}.txt", (counts or {}).get(split)
    by_id = read_groups(path, _HINT) if groups == COLUMN else groups
    items = [voc_item(root, id) for id in (by_id if isinstance(by_id, dict) else read_id_list(path, _HINT))]
    return make_split(f"{name} {split}", items, classes, count=count, orientation=orientation, groups=by_id, ordered=ordered)


def read_train_aug_png(
    root: str | Path,
    classes: Sequence[str],
    masks: str = "SegmentationClassAug",
    listed: str = "train_aug",
    counts: Counts | None = None,
    name: str = "VOC + SBD",
    orientation: Orientation = "refuse",
) -> Split:
    """VOC's train with SBD's annotations in the form that most copies have: one folder of PNG masks, one list.

    Args:
        root: VOC 2012 in devkit layout, with SBD's images in its JPEGImages.
        classes: names of the ids 0..C-1; 255 is void.
        masks: folder of all masks, in ``root``.
        listed: of ImageSets/Segmentation: ids, or lines ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``.
        counts: ``train_aug`` of a complete copy, to be asserted.
        name: of the data set, for messages.
        orientation: see `make_split`.

    Raises:
        DataError: see `make_split`; or if ``root`` is not in this layout, or the list holds an image of VOC's val.
    """
    root = Path(root)
    lists = root / "ImageSets" / "Segmentation"
    check_folders(name, [root / "JPEGImages"], f"\n{_HINT}")
    check_folders(name, [root / masks], f"\nUnpack {masks}.zip there, or choose data=voc_aug for SBD's .mat files.")
    path = lists / f"{listed}.txt"
    lines = read_lines(path, f"Put the list of the {masks} masks there, 10,582 ids, one a line.")
    items = [_listed_item(root, masks, line, path) for line in lines]
    check_ids((item.id for item in items), str(path))
    held_out = {*read_id_list(lists / "val.txt", _HINT)}
    if shared := sorted(item.id for item in items if item.id in held_out):
        raise DataError(
            f"{path} lists {plural(len(shared), 'image')} of VOC's val, e.g. {shared[0]}: it is a list "
            f"for training and validation. Take "
            "the one of 10,582 ids."
        )
    return make_split(f"{name} train_aug", items, classes, count=(counts or {}).get("train_aug"), orientation=orientation)


def _listed_item(root: Path, masks: str, line: str, path: Path) -> Item:
    columns = line.split()
    if len(columns) == 1 and not {*line} & {*"/\\"}:
        return Item(line, root / "JPEGImages" / f"{line}.jpg", root / masks / f"{line}.png")
    image, mask = (root / column.lstrip("/") for column in (*columns, "", "")[:2])
    if len(columns) != 2 or image.stem != mask.stem or ".." in Path(line).parts:
        raise DataError(f"{path}: {line!r} is no id, nor /JPEGImages/ID.jpg /{masks}/ID.png.")
    return Item(image.stem, image, mask)


def voc_item(root: Path, id: str) -> Item:
    """Where VOC layout keeps an image and its mask."""
    return Item(id, root / "JPEGImages" / f"{id}.jpg", root / "SegmentationClass" / f"{id}.png")
