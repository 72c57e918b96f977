"""The embedded default as a split: scenes are written as a PASCAL VOC devkit folder, once and whole, and read as one."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import msgspec
from filelock import FileLock
from PIL import Image

from exfuse.data.scenes_drawing import draw_scene
from exfuse.data.scenes_objects import CLASSES
from exfuse.data.split import Split
from exfuse.data.voc import read_voc
from exfuse.errors import DataError
from exfuse.files import remove_abandoned, write_folder, write_json
from exfuse.limits import Positive, Seed
from exfuse.memory import check_memory
from exfuse.palette import palette_image
from exfuse.store.checked import plain
from exfuse.terminal import track

VERSION = 1  # raise it whenever the same parameters would draw other pixels


class _Drawn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What scenes.json says: how its folder was drawn."""

    version: int
    train: int
    val: int
    size: int
    seed: int


_MAY_DRAW: ContextVar[bool] = ContextVar("_MAY_DRAW", default=True)


@contextmanager
def drawn_already() -> Iterator[None]:
    """Within this, scenes that are not there are not drawn but refused."""
    before = _MAY_DRAW.set(False)
    try:
        yield
    finally:
        _MAY_DRAW.reset(before)


def generate_scenes(root: Path, train: int, val: int, size: int, seed: int) -> Path:
    """Write ``train`` + ``val`` scenes in VOC layout, or keep them if they are there.

    Other scenes than those that ``root`` holds have a folder of their own beside it. A folder appears complete or not at all,
    and processes that start at once write it once.

    Args:
        size: longer side of the images in pixels.

    Returns:
        The folder, holding ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation`` and ``scenes.json``.

    Raises:
        DataError: if the folder holds anything but scenes; it is left as it is.
        ValueError: if a count is negative, or ``size`` as in :func:`draw_scene`.
    """
    if min(train, val) < 0:
        raise ValueError(f"counts of scenes cannot be negative, got train={train}, val={val}")
    check_memory(
        64 * size**2, f"A scene of data.size={size} pixels", "Choose a smaller size."
    )  # its parts are drawn 4 x larger
    asked = _Drawn(VERSION, train, val, size, seed)
    beside = root.with_name(f"{root.name}_{train}_{val}_{size}_{seed}_v{VERSION}")
    for folder in (root, beside):
        if _drawn(folder) == asked:  # asked without the lock, which a read-only folder could not hold
            return folder
    if not _MAY_DRAW.get():
        raise DataError(f"{root} does not hold the scenes that were asked for")
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        folder = root if _drawn(root) in (None, asked) else beside
        if _drawn(folder) == asked:  # another process wrote it while this one waited
            return folder
        remove_abandoned(folder.parent)
        write_folder(folder, lambda scratch: _write_scenes(scratch, asked))
    return folder


def _drawn(folder: Path) -> _Drawn | None:
    """How the scenes in a folder were drawn; None for a folder that is not there or empty.

    Raises:
        DataError: if it holds anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        return msgspec.json.decode((folder / "scenes.json").read_bytes(), type=_Drawn)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{folder} holds something other than scenes (no readable scenes.json): choose another folder with data.root, or "
            "delete this one to draw it anew."
        ) from error


def _write_scenes(root: Path, asked: _Drawn) -> None:
    images, masks, lists = root / "JPEGImages", root / "SegmentationClass", root / "ImageSets" / "Segmentation"
    for folder in (images, masks, lists):
        folder.mkdir(parents=True)
    for split, count in (("train", asked.train), ("val", asked.val)):
        (lists / f"{split}.txt").write_text("".join(f"{split}_{index:06d}\n" for index in range(count)))
        for index in track(range(count), description=f"Drawing {split} scenes"):
            image, ids = draw_scene(asked.seed, split, index, asked.size)
            Image.fromarray(image).save(images / f"{split}_{index:06d}.jpg", quality=92)
            palette_image(ids).save(masks / f"{split}_{index:06d}.png")
    write_json(root / "scenes.json", plain(asked))


# The embedded default as a split: generate the scenes where they are missing, then read them as VOC is read.


def read_scenes(
    root: str | Path,
    split: str,
    train: Positive,
    val: Positive,
    size: Positive,
    seed: Seed,
    name: str = "scenes",
) -> Split:
    """Read one split of the generated scenes, generating both first where they are missing.

    Args:
        root: folder in VOC layout; see `generate_scenes`.
        split: train or val.
        train, val: number of images in each.
        size: longer side of the images in pixels.
        seed: of the generator.
        name: of the data set, for messages.

    Raises:
        DataError: if ``root`` holds something else, or see `exfuse.data.voc.read_voc`.
    """
    drawn = generate_scenes(Path(root), train=train, val=val, size=size, seed=seed)
    return read_voc(drawn, split, CLASSES, counts={"train": train, "val": val}, name=name)
