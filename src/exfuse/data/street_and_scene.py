"""Cityscapes and ADE20K in the layouts in which their owners hand them out, with their own ids."""

from collections.abc import Sequence
from pathlib import Path

from exfuse.data.split import Item, Split, check_folders, make_split
from exfuse.data.text import check_class_names, read_lines
from exfuse.errors import DataError
from exfuse.limits import Counts, Id, Orientation
from exfuse.palette import VOID

_IMAGE, _LABELS = "_leftImg8bit", "_gtFine_labelIds"
_CITYSCAPES = (
    "Set data.root to the folder that holds leftImg8bit/ and gtFine/, from leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip of cityscapes-dataset.com (an account and its terms)."
)
_ADE = (
    "Set data.root to ADEChallengeData2016, which holds images/, annotations/ and objectInfo150.txt: "
    "data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip. The full ADE20K of other ids is another layout."
)
_SPLITS = {"train": "training", "val": "validation"}


def read_cityscapes(
    root: str | Path,
    split: str,
    classes: Sequence[str],
    ids: Sequence[Id],
    counts: Counts | None = None,
    name: str = "Cityscapes",
    groups: str | None = None,
    ordered: bool = False,
) -> Split:
    """Read ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` with ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``.

    Args:
        root: holds both folders.
        split: train or val.
        classes: names of those ids that count.
        ids: of these classes among the data set's own 0..33; all others are void.
        counts: how many images each split of a complete copy has, to be asserted.
        name: of the data set, for messages.
        groups, ordered: which images are not independent, see `exfuse.store.grouping.GroupRule`.

    Raises:
        DataError: see `make_split`; or if ``root`` is not in this layout.
    """
    images, labels = Path(root) / "leftImg8bit" / split, Path(root) / "gtFine" / split
    check_folders(name, (images, labels), f"\n{_CITYSCAPES}")
    found = sorted(path for path in images.glob(f"*/*{_IMAGE}.png") if not path.name.startswith("."))
    if not found:
        loose = "images beside one another" if any(images.glob("*.png")) else "no such image"
        raise DataError(f"{images} holds {loose}, expected a folder for each city with *{_IMAGE}.png.\n{_CITYSCAPES}")
    items = []
    for path in found:
        id = path.stem.removesuffix(_IMAGE)
        items.append(Item(id, path, labels / path.parent.name / f"{id}{_LABELS}.png"))
    void = sorted({*range(34), VOID} - {*ids})
    count = (counts or {}).get(split)
    return make_split(f"{name} {split}", items, classes, void, count, groups=groups, ordered=ordered, ids=ids)


def read_ade20k(
    root: str | Path, split: str, counts: Counts | None = None, name: str = "ADE20K", orientation: Orientation = "refuse"
) -> Split:
    """Read ADE20K's 150 classes: ``images/training/*.jpg`` and ``annotations/training/*.png``, whose 0 is void.

    Args:
        root: the folder ADEChallengeData2016.
        split: train or val.
        counts: how many images each split of a complete copy has, to be asserted.
        name: of the data set, for messages.
        orientation: see `make_split`.

    Raises:
        DataError: see `make_split`; or if ``root`` is not in this layout.
    """
    root = Path(root)
    folders = [root / part / _SPLITS.get(split, split) for part in ("images", "annotations")]
    check_folders(name, folders, f"\n{_ADE}")
    classes = _object_names(root / "objectInfo150.txt")
    images = sorted(path for path in folders[0].glob("*.jpg") if not path.name.startswith("."))
    items = [Item(path.stem, path, folders[1] / f"{path.stem}.png") for path in images]
    count, ids = (counts or {}).get(split), range(1, len(classes) + 1)
    return make_split(f"{name} {split}", items, classes, (0, VOID), count, orientation, ids=ids)


def _object_names(path: Path) -> list[str]:
    """The last column of objectInfo150.txt, whose first counts from 1: of each class the first word, unless two share it."""
    rows = [line.split("\t") for line in read_lines(path, _ADE)]
    table = [row for row in rows if row[0].strip().isdecimal()]
    if [int(row[0]) for row in table] != [*range(1, len(table) + 1)] or any(len(row) < 2 for row in table):
        raise DataError(f"{path} is no list of classes: expected lines that begin with 1, 2, 3 and end in a name.\n{_ADE}")
    whole = [row[-1].strip() for row in table]
    first = [name.partition(",")[0].strip() for name in whole]
    names = first if len({*first}) == len(first) else whole
    check_class_names(names, str(path))
    return names
