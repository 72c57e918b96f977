"""Real images to check an exported file on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from exfuse.composition.reading import read_split
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.split import read_image
from exfuse.errors import UserError
from exfuse.store.description import RunDescription

_NUMBER = 3


def check_images(run: RunDescription, size: tuple[int, int] | None) -> tuple[Sequence[NDArray[np.float32]], str]:
    """A few images as the run's model is scored on them, and what they are.

    Args:
        run: whose first val images they are where its data are at hand; else a photograph of scikit-image's.
        size: the (H, W) to scale them to; None leaves them as they are.

    Raises:
        UserError: if neither is there.
    """
    images, origin = _val_images(run) or _photograph()
    if size is not None:
        images = [np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)) for image in images]
        run = replace(run, recipe=replace(run.recipe, long_side=None))
    transform = build_eval_transform(run)
    return [transform(image).numpy() for image in images], origin


def _val_images(run: RunDescription) -> tuple[list[NDArray[np.uint8]], str] | None:
    if not Path(run.data.settings["root"]).is_dir():
        return None
    try:
        split = read_split(run.data, "val")
    except UserError:  # moved, incomplete or of another version: not what this command is about
        return None
    items = split.items[:_NUMBER]
    return [read_image(item.image) for item in items], f"{len(items)} images of {split.name}"


def _photograph() -> tuple[list[NDArray[np.uint8]], str]:
    try:
        from skimage import data
    except ImportError as error:
        raise UserError(
            "Nothing to check the file on: the run's val images are not where its config says and scikit-image, whose "
            "photograph would do, is not installed. pip install scikit-image pooch, or make data.root valid from here."
        ) from error
    return [data.chelsea()], "a photograph of scikit-image's"
