"""What every reader of classification data hands on: a list of images, or boxes in images, with one class each."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from exfuse.data.contents import content_hashes
from exfuse.data.pixels import read_image
from exfuse.data.split import Split, same_images
from exfuse.data.subsets import spread_evenly
from exfuse.errors import DataError, plural, some

_HASHED = 200_000  # images that are known by content; of more, such as ImageNet's, by path alone


@dataclass(frozen=True)
class LabelledItem:
    """An image, or the part of it inside ``box`` (left, top, right, bottom in pixels), and the id of its class."""

    id: str
    image: Path
    label: int
    box: tuple[int, int, int, int] | None = None
    upright: bool = False
    group: str = ""

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Raises:
            DataError: if the file is truncated or not an image.
        """
        pixels = read_image(self.image, self.upright)
        if self.box is None:
            return pixels
        left, top, right, bottom = self.box
        return pixels[top:bottom, left:right]


@dataclass(frozen=True)
class LabelledSplit:
    """A list of labelled images that is looked up only when somebody needs it.

    Attributes:
        name: of the data set and split, for messages.
        classes: names of the ids 0..C-1.
        find: lists the items, in an order that never depends on the file system.
        identify: a digest of what the data are, not where; cheaper than listing them.
        limit: keep only so many, from the first to the last in even steps, as a list may go class by class; None for all.
    """

    name: str
    classes: tuple[str, ...]
    find: Callable[[], Sequence[LabelledItem]] = field(repr=False)
    identify: Callable[[], str] | None = field(default=None, repr=False)
    limit: int | None = None

    @cached_property
    def items(self) -> tuple[LabelledItem, ...]:
        found = self.find()
        return tuple(found) if self.limit is None else tuple(found[at] for at in spread_evenly(len(found), self.limit))

    def __len__(self) -> int:
        return len(self.items)

    def manifest(self) -> str:
        """SHA-256 of what the data are: by default of the classes, the ids with their labels, boxes and contents."""
        if self.identify is not None:
            return hashlib.sha256(f"{self.identify()} {self.limit}".encode()).hexdigest()
        digest = hashlib.sha256(repr(self.classes).encode())
        for item, content in zip(self.items, content_hashes([item.image for item in self.items]), strict=True):
            digest.update(f"{item.id} {item.label} {item.box} {content}\n".encode())
        return digest.hexdigest()


def check_labelled(train: LabelledSplit, val: LabelledSplit) -> None:
    """Refuse data that no classifier can be trained or scored on.

    Raises:
        DataError: on an empty split, fewer than two classes, classes that differ, or a shared image.
    """
    if train.classes != val.classes:
        only = sorted(set(train.classes) ^ set(val.classes))
        raise DataError(
            f"{train.name} has {plural(len(train.classes), 'class')} and {val.name} {len(val.classes)}; they differ in "
            f"{some(only, 5) or 'their order'}. Give both the same classes."
        )
    for split in (train, val):
        if not split.items:
            raise DataError(f"{split.name} lists no image at all. Check its folder.")
    if len(present := {item.label for item in train.items}) < 2:
        names = ", ".join(train.classes[label] for label in present)
        raise DataError(f"{train.name} holds images of one class only ({names}). A classifier needs at least two.")
    images, others = ([*dict.fromkeys(item.image for item in split.items)] for split in (train, val))
    shared = same_images(images, others) if len(images) < _HASHED else sorted(map(str, {*images} & {*others}))
    if shared:
        raise DataError(
            f"{train.name} and {val.name} share {plural(len(shared), 'image')}, e.g. {shared[0]}: remove them from one."
        )


def check_excludes(train: LabelledSplit, held_out: Split) -> None:
    """Assert that no image on which segmentation is scored takes part in the pretraining.

    Compared by path and, among files of equal size, by content, so that a renamed copy is found too.

    Raises:
        DataError: naming one of the images.
    """
    sizes: dict[int, list[Path]] = {}
    for item in held_out.items:
        sizes.setdefault(item.image.stat().st_size, []).append(item.image)
    for image in dict.fromkeys(item.image for item in train.items):
        for suspect in sizes.get(image.stat().st_size, ()):
            if image.resolve() == suspect.resolve() or image.read_bytes() == suspect.read_bytes():
                raise DataError(
                    f"{train.name} holds {image}, which is {suspect} of {held_out.name}: scores on it would flatter every "
                    "variant. Remove it from the pretraining's data."
                )
