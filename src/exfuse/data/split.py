"""What every reader hands on: the listed images of one split, checked before anything trains on them."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from exfuse.data.contents import content_hashes
from exfuse.errors import DataError
from exfuse.palette import VOID


@dataclass(frozen=True)
class Item:
    """One image and its mask."""

    id: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Split:
    """An ordered list of images with masks whose ids mean ``classes``.

    Attributes:
        name: of the data set and split, for messages.
        items: the images; their order never depends on the file system.
        classes: names of the ids 0..C-1.
        void_ids: ids in the mask files that mean void; they are read as 255.
        seen: whether these are known to be images that are trained on as well, as the name then says.
    """

    name: str
    items: tuple[Item, ...]
    classes: tuple[str, ...]
    void_ids: tuple[int, ...] = (VOID,)
    seen: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def manifest(self) -> str:
        """SHA-256 over the classes, the ids in order and the content of their files: what the data are, not where."""
        digest = hashlib.sha256(repr((self.classes, self.void_ids)).encode())
        contents = iter(content_hashes([path for item in self.items for path in (item.image, item.mask)]))
        for item in self.items:
            digest.update(f"{item.id} {next(contents)} {next(contents)}\n".encode())
        return digest.hexdigest()


def make_split(
    name: str,
    items: Iterable[Item],
    classes: Sequence[str],
    void_ids: Sequence[int] = (VOID,),
    count: int | None = None,
) -> Split:
    """Check that every listed file is there, readable and of matching size; return the split.

    Only headers are read, so a full VOC takes seconds; pixels are checked when they are read.

    Args:
        name: of the data set and split, for messages.
        items: images and masks.
        classes: names of the ids 0..C-1.
        void_ids: ids that mean void.
        count: how many images a complete copy has, where that is known.

    Raises:
        DataError: on an empty split, a wrong count, a missing or unreadable file, a mask that holds colours instead of ids,
            or an image and a mask of different sizes.
    """
    split = Split(name, tuple(items), tuple(classes), tuple(void_ids))
    if not split.items:
        raise DataError(f"{name} lists no image at all. Check its list file or folder.")
    if count is not None and len(split) != count:
        raise DataError(
            f"{name} has {len(split)} images where a complete copy has {count}. Complete the data set, or set the "
            "expected count of this split to null in its data config to use it as it is."
        )
    with ThreadPoolExecutor(8) as pool:  # waiting for the disk, not computing
        for problem in pool.map(_header_problem, split.items):
            if problem:
                raise DataError(f"{name}: {problem}")
    return split


def check_disjoint(train: Split, val: Split) -> None:
    """Refuse two splits that share an image, unless ``val`` says that it does, or that name their ids differently.

    Raises:
        DataError: naming one of the shared images, or the classes.
    """
    shared = {item.image for item in train.items} & {item.image for item in val.items}
    if shared and not val.seen:
        raise DataError(f"{train.name} and {val.name} share {len(shared)} images, e.g. {min(shared)}: unlist them in one.")
    if train.classes != val.classes:
        raise DataError(f"{train.name} and {val.name} name different classes: {train.classes} and {val.classes}.")


def read_image(path: Path, upright: bool = False) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Args:
        path: of the image.
        upright: turn a photograph as its camera says; not where a mask was drawn on the pixels as they are stored.

    Raises:
        DataError: if the file is truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray((ImageOps.exif_transpose(image) if upright else image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be decoded ({error}). Restore the file from its source, or unlist it.") from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its header.

    Raises:
        DataError: if the file is not an image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path} is not an image ({error}). Restore the file from its source, or unlist it.") from error


def read_mask(path: Path, classes: int, void_ids: Sequence[int] = (VOID,)) -> np.ndarray:
    """Read a palette or grey-scale mask as (H, W) uint8 ids, void as 255.

    Raises:
        DataError: if the file cannot be decoded, holds colours, or has an id that is neither a class nor void.
    """
    try:
        with Image.open(path) as image:
            if problem := _mode_problem(path, image.mode):
                raise DataError(problem)
            mask = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be decoded ({error}). Restore the file from its source, or unlist it.") from error
    present = np.zeros(256, dtype=bool)
    present[mask] = True
    if unknown := set(np.flatnonzero(present).tolist()) - {*range(classes), VOID, *void_ids}:
        raise DataError(
            f"{path} holds the ids {sorted(unknown)}, but there are only the {classes} classes 0..{classes - 1} "
            f"and void {sorted({VOID, *void_ids})}. Correct the mask or the data config's class list."
        )
    for id in {*void_ids} - {VOID}:
        if present[id]:
            mask[mask == id] = VOID
    return mask


def read_list(path: Path, hint: str) -> list[str]:
    """The ids in a list file, one a line.

    Raises:
        DataError: if the file is missing; ``hint`` says what to do. Also if an id is listed twice.
    """
    if not path.is_file():
        raise DataError(f"No list file {path}. {hint}")
    ids = path.read_text().split()
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise DataError(f"{path} lists {twice} twice. Remove one of the lines.")
    return ids


def _header_problem(item: Item) -> str | None:
    """What is wrong with an item as far as its files' headers tell; None if nothing is."""
    for kind, path in (("image", item.image), ("mask", item.mask)):
        if not path.is_file():
            return f"{item.id} is listed but its {kind} {path} does not exist. Restore the file or unlist the id."
    try:
        with Image.open(item.image) as image:
            size = image.size
    except (OSError, UnidentifiedImageError) as error:
        return f"{item.image} is not an image ({error}). Restore the file from its source, or unlist it."
    try:
        with Image.open(item.mask) as mask:
            mask_size, mode = mask.size, mask.mode
    except (OSError, UnidentifiedImageError) as error:
        return f"{item.mask} is not an image ({error}). Restore the file from its source, or unlist it."
    if size != mask_size:
        return f"{item.image} is {size[0]}x{size[1]} but its mask {item.mask} is {mask_size[0]}x{mask_size[1]} pixels."
    return _mode_problem(item.mask, mode)


def _mode_problem(path: Path, mode: str) -> str | None:
    if mode in ("P", "L"):
        return None
    return (
        f"{path} is a mask in PIL mode {mode}: expected class ids (mode P or L), not colours. "
        "Save masks as palette or grey-scale PNG whose pixel values are the class ids."
    )


# Several data sets as one training set, without an image that is held out.


def join_splits(parts: Sequence[Split], held_out: Split, name: str) -> Split:
    """The images of all parts, in their order.

    An id names an image: one that several parts hold is taken from the first of them, with that part's mask, and one that
    ``held_out`` holds is left out of all.

    Args:
        parts: with the same classes and void ids.
        held_out: the images that a score will be taken of.
        name: of the union, for messages.

    Raises:
        DataError: if there is nothing to join, parts name different classes or voids, nothing remains, or an image of
            ``held_out`` is still there under another id.
    """
    if not parts:
        raise DataError(f"{name} is a union of no data set at all. List its parts in the data config.")
    for part in parts:
        if (part.classes, part.void_ids) != (parts[0].classes, parts[0].void_ids):
            raise DataError(f"{name}: {parts[0].name} and {part.name} name different classes or voids; they cannot be joined.")
    kept: dict[str, Item] = {}
    without = {item.id for item in held_out.items}
    for part in parts:
        for item in part.items:
            if item.id not in without:
                kept.setdefault(item.id, item)
    if not kept:
        raise DataError(f"{name} has no image that is not held out.")
    union = Split(f"{name} train", tuple(kept.values()), parts[0].classes, parts[0].void_ids)
    check_disjoint(union, held_out)
    return union


def seen_in_training(of: Split) -> Split:
    """The same images under a name that says so: nothing is held out, and what is scored was trained on.

    For the last training before a test server scores, which may use every label there is.
    """
    return Split(f"{of.name} (seen in training)", of.items, of.classes, of.void_ids, seen=True)


def spread_evenly(total: int, wanted: int | None) -> list[int]:
    """Positions of ``wanted`` images, or of all for None, spread evenly over a split of ``total``, its ends among them."""
    number = total if wanted is None else min(wanted, total)
    return [int(position) for position in np.unique(np.linspace(0, total - 1, number).round())]
