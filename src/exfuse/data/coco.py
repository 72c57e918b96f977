"""COCO's images that hold VOC's classes, with the masks that `exfuse data prepare coco-masks` made of its annotations."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from exfuse.data.coco_annotations import annotation_file
from exfuse.data.coco_masks import RULES, Made, MaskSource, mask_path, store_folder
from exfuse.data.contents import content_hashes
from exfuse.data.split import Item, Split, make_split
from exfuse.data.text import check_ids
from exfuse.errors import DataError
from exfuse.limits import NonNegative, Orientation


def read_coco(
    root: str | Path,
    splits: Sequence[str],
    classes: Sequence[str],
    minimum_pixels: NonNegative,
    name: str = "COCO",
    orientation: Orientation = "stored",
) -> Split:
    """Read the images of one or several of COCO's splits as one training set.

    Args:
        root: COCO's folder, with a folder of images for each split and voc_masks/.
        splits: such as train2017 and val2017.
        classes: names of the ids 0..C-1; 255 is void.
        minimum_pixels: an image with fewer pixels of the classes was left out.
        name: of the data set, for messages.
        orientation: see `make_split`; COCO's outlines are of the pixels as they are stored.

    Raises:
        DataError: if the masks are missing, were made otherwise or not to the end; or see `make_split`.
    """
    root, items = Path(root), list[Item]()
    for split in splits:
        store = store_folder(root, split)
        masks = _read_index(store, annotation_file(root, split), classes, minimum_pixels).masks
        items += [Item(Path(file).stem, root / split / file, mask_path(store, file)) for file in masks]
    return make_split(f"{name} {'+'.join(splits)}", items, classes, orientation=orientation)


def _read_index(store: Path, annotations: Path, classes: Sequence[str], minimum_pixels: int) -> Made:
    command = f"exfuse data prepare coco-masks data.coco_root={store.parent.parent} data.minimum_pixels={minimum_pixels}"
    path = store / "index.json"
    if not path.is_file():
        raise DataError(f"COCO's masks are not there, or not all: no {path}.\nMake them, or go on making them: {command}")
    try:
        index = Made.read(path)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise DataError(f"{path} is cut short or altered. Delete it and make it again: {command}") from error
    check_ids(index.masks, str(path))
    # where the annotations are gone, the masks stand for themselves
    made_from = content_hashes([annotations])[0] if annotations.is_file() else index.source.annotations
    asked = MaskSource(RULES, made_from, tuple(classes), minimum_pixels)
    for key in MaskSource.__struct_fields__:
        if (made := getattr(index.source, key)) != (wanted := getattr(asked, key)):
            made, wanted = (list(value) if isinstance(value, tuple) else value for value in (made, wanted))
            raise DataError(f"{path} describes masks made with {key} {made}; {wanted} is wanted. Make them: {command}")
    return index
