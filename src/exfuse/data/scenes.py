"""Writing the scenes as a PASCAL VOC devkit folder, once and completely."""

import json
import shutil
from pathlib import Path

from filelock import FileLock
from PIL import Image
from rich.progress import track

from exfuse.data.scenes_drawing import CLASSES, draw_scene
from exfuse.data.split import Split
from exfuse.data.voc import read_voc
from exfuse.errors import DataError
from exfuse.limits import NonNegative, Positive
from exfuse.palette import voc_palette

VERSION = 1  # raise it whenever the same parameters would draw other pixels


def generate_scenes(root: Path, train: int, val: int, size: int, seed: int) -> Path:
    """Write ``train`` + ``val`` scenes into ``root`` in VOC layout, or keep ``root`` if it already holds just these.

    The folder appears complete or not at all, and processes that start at once write it once.

    Args:
        size: longer side of the images in pixels.

    Returns:
        ``root``, holding ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation`` and ``scenes.json``.

    Raises:
        DataError: if ``root`` holds anything else; it is left as it is.
        ValueError: if a count is negative, or ``size`` as in :func:`draw_scene`.
    """
    if min(train, val) < 0:
        raise ValueError(f"counts of scenes cannot be negative, got train={train}, val={val}")
    asked = {"version": VERSION, "train": train, "val": val, "size": size, "seed": seed}
    if _holds(root, asked):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        if _holds(root, asked):  # another process wrote it while this one waited
            return root
        partial = root.parent / f".{root.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: the lock lets only one in here
        try:
            _write_scenes(partial, {"train": train, "val": val}, size, seed)
            (partial / "scenes.json").write_text(json.dumps(asked, indent=2) + "\n")
            partial.replace(root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return root


def _holds(root: Path, asked: dict[str, int]) -> bool:
    """Say whether ``root`` holds what was ``asked`` for; absent or empty it does not. Anything else is a DataError."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    advice = "choose another folder with data.root, or delete this one to draw it anew."
    try:
        found = json.loads((root / "scenes.json").read_text())
    except (OSError, ValueError):
        raise DataError(f"{root} holds something other than scenes (no readable scenes.json): {advice}") from None
    if found != asked:
        raise DataError(f"{root} holds scenes drawn with {found}, but {asked} was asked for: {advice}")
    return True


def _write_scenes(root: Path, counts: dict[str, int], size: int, seed: int) -> None:
    images, masks, lists = root / "JPEGImages", root / "SegmentationClass", root / "ImageSets" / "Segmentation"
    for folder in (images, masks, lists):
        folder.mkdir(parents=True)
    palette = voc_palette().tobytes()
    for split, count in counts.items():
        (lists / f"{split}.txt").write_text("".join(f"{split}_{index:06d}\n" for index in range(count)))
        for index in track(range(count), description=f"Drawing {split} scenes"):
            image, ids = draw_scene(seed, split, index, size)
            Image.fromarray(image).save(images / f"{split}_{index:06d}.jpg", quality=92)
            mask = Image.fromarray(ids)
            mask.putpalette(palette)  # turns mode L into P
            mask.save(masks / f"{split}_{index:06d}.png")


# The embedded default as a split: generate the scenes where they are missing, then read them as VOC is read.


def read_scenes(
    root: str | Path,
    split: str,
    train: Positive,
    val: Positive,
    size: Positive,
    seed: NonNegative,
    name: str = "scenes",
) -> Split:
    """Read one split of the generated scenes, generating both first if ``root`` does not exist.

    Args:
        root: folder in VOC layout.
        split: train or val.
        train, val: number of images in each.
        size: longer side of the images in pixels.
        seed: of the generator.
        name: of the data set, for messages.

    Raises:
        DataError: if ``root`` holds other scenes, or see `exfuse.data.voc.read_voc`.
    """
    generate_scenes(Path(root), train=train, val=val, size=size, seed=seed)
    return read_voc(root, split, CLASSES, counts={"train": train, "val": val}, name=name)
