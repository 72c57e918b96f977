"""The embedded default as a split: generate the scenes where they are missing, then read them as VOC is read."""

from pathlib import Path

from exfuse.data.scenes.devkit import generate_scenes
from exfuse.data.scenes.objects import CLASSES
from exfuse.data.split import Split
from exfuse.data.voc import read_voc
from exfuse.limits import NonNegative, Positive


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
