"""COCO's images that hold VOC's classes, with the masks that `exfuse data prepare coco-masks` made of its annotations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exfuse.data.coco_conversion import RULES, mask_path, store_folder
from exfuse.data.split import Item, Split, make_split
from exfuse.errors import DataError
from exfuse.limits import NonNegative


def read_coco(
    root: str | Path,
    splits: Sequence[str],
    classes: Sequence[str],
    minimum_pixels: NonNegative,
    name: str = "COCO",
) -> Split:
    """Read the images of one or several of COCO's splits as one training set.

    Args:
        root: COCO's folder, with a folder of images for each split and voc_masks/.
        splits: such as train2017 and val2017.
        classes: names of the ids 0..C-1; 255 is void.
        minimum_pixels: an image with fewer pixels of the classes was left out.
        name: of the data set, for messages.

    Raises:
        DataError: if the masks are missing, were made otherwise or not to the end; or see `make_split`.
    """
    root, items = Path(root), list[Item]()
    for split in splits:
        store = store_folder(root, split)
        index = _read_index(store, classes, minimum_pixels)
        items += [Item(Path(file).stem, root / split / file, mask_path(store, file)) for file in index["masks"]]
    return make_split(f"{name} {'+'.join(splits)}", items, classes)


def _read_index(store: Path, classes: Sequence[str], minimum_pixels: int) -> dict[str, Any]:
    command = f"exfuse data prepare coco-masks data.coco_root={store.parent.parent} data.minimum_pixels={minimum_pixels}"
    path = store / "index.json"
    if not path.is_file():
        raise DataError(f"COCO's masks are not there, or not all: no {path}.\nMake them, or go on making them: {command}")
    try:
        index = json.loads(path.read_text())
        source = index["source"]
        made = {key: source[key] for key in ("rules", "classes", "minimum_pixels")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is cut short or altered. Delete it and make it again: {command}") from error
    asked = {"rules": RULES, "classes": list(classes), "minimum_pixels": minimum_pixels}
    if differing := [key for key in asked if made[key] != asked[key]]:
        key = differing[0]
        raise DataError(f"{path} describes masks made with {key} {made[key]}; {asked[key]} is wanted. Make them: {command}")
    return index
