"""A study's examples: a few val images, their truth and what every run predicts, small enough to be published.

``examples/`` of a study's folder holds

    index.json                    which images and runs, of which data
    images/NAME.jpg               scaled down to a bounded size
    truth/NAME.png                palette PNG, ids of the classes, 255 for void
    predictions/KEY/NAME.png      likewise, of the run KEY
"""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exfuse.errors import UserError
from exfuse.files import write_atomically
from exfuse.palette import VOID, palette_image
from exfuse.store.checked import Index, read_index
from exfuse.store.record import KEY, Record

INDEX, SCHEMA = "index.json", 1
FOLDER = "examples"
_NAME = re.compile(r"[0-9]{5,9}")
_QUALITY = 88  # of JPEG; chosen
Ids = NDArray[np.uint8]


class ExampleImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image: its id in the split, the stem of its files, and its size as shown."""

    id: str
    name: str
    width: int
    height: int


class Examples(Index, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What index.json says.

    Attributes:
        data: name of the data set.
        manifest: of the split that the images are from, as records name it.
        long_side: bound of the pictures' longer side in pixels.
        runs: whose predictions are there: by key, the record's ``confusion_sha256``, which tells one training from another.
    """

    INDEX = INDEX
    data: str
    manifest: str
    classes: tuple[str, ...]
    long_side: int
    images: tuple[ExampleImage, ...]
    runs: dict[str, str] = {}
    schema: int = SCHEMA

    def image(self, example: ExampleImage) -> Path:
        return self.folder / "images" / f"{example.name}.jpg"

    def truth(self, example: ExampleImage) -> Path:
        return self.folder / "truth" / f"{example.name}.png"

    def prediction(self, example: ExampleImage, key: str) -> Path:
        return self.folder / "predictions" / key / f"{example.name}.png"

    def holds(self, key: str, record: Record) -> bool:
        """Whether the predictions of this very training are there."""
        return self.runs.get(key) == record.confusion_sha256

    def with_run(self, key: str, record: Record) -> "Examples":
        """The same with one more run, written into index.json."""
        runs = dict(sorted({**self.runs, key: record.confusion_sha256 or ""}.items()))
        more = msgspec.structs.replace(self, runs=runs)
        more.write()
        return more

    def without_run(self, key: str) -> "Examples":
        """The same before a run is predicted anew: index.json vouches for no file that is about to change."""
        less = msgspec.structs.replace(self, runs={name: hash for name, hash in self.runs.items() if name != key})
        if key in self.runs:
            less.write()
        return less

    def paths(self) -> list[str]:
        found = [path for image in self.images for path in (self.image(image), self.truth(image))]
        found += [self.prediction(image, key) for image in self.images for key in self.runs]
        return [path.relative_to(self.folder).as_posix() for path in found]


def load_examples(folder: Path) -> Examples | None:
    """The examples in ``folder``, or None if there are none.

    Raises:
        UserError: if index.json is cut short, altered, of another schema, or a file that it names is missing or altered.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    what, remedy = "a whole index of examples", f"Delete {folder} and gather the examples again."
    found = read_index(folder, Examples, what, remedy, SCHEMA)
    images = found.images
    if not all(_NAME.fullmatch(image.name) for image in images) or not all(map(KEY.fullmatch, found.runs)):
        raise UserError(f"{path} is not {what}: it holds a name that is no number or a run that is no key. {remedy}")
    return found


def bounded(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Width and height with the longer side at most ``long_side``, in proportion."""
    scale = min(1.0, long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def write_image(path: Path, image: NDArray[np.uint8], size: tuple[int, int]) -> None:
    """Write an image (H, W, 3) as a JPEG of ``size`` (width, height)."""
    scaled = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    write_atomically(path, lambda scratch: scaled.save(scratch, quality=_QUALITY, optimize=True))


def write_ids(path: Path, ids: Ids, size: tuple[int, int], classes: Sequence[str]) -> None:
    """Write ids (H, W) as a palette PNG of ``size`` (width, height) in VOC's colours, each pixel the nearest one's id."""
    colours = 256 if (ids == VOID).any() else len(classes)  # a short palette makes a small file
    mask = palette_image(ids, colours).resize(size, Image.Resampling.NEAREST)
    write_atomically(path, lambda scratch: mask.save(scratch, optimize=True))


def read_ids(path: Path) -> Ids:
    """Ids (H, W) of a mask that `write_ids` wrote.

    Raises:
        UserError: if it is no palette PNG.
    """
    try:
        with Image.open(path) as mask:
            if mask.mode != "P":
                raise ValueError(f"mode {mask.mode} instead of P")
            return np.array(mask)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as a palette PNG ({error}). Gather the examples again.") from error
