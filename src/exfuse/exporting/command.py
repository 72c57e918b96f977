"""Export a finished run's model: fuse, trace, write, check; a file that fails its check is not kept."""

from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image
from rich.filesize import decimal

from exfuse.composition.reading import bands_of, split_of
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.scenes_drawing import draw_scene
from exfuse.devices import choose_device
from exfuse.errors import UserError, plural
from exfuse.exporting.formats import FORMATS, Scoring, describe_file
from exfuse.exporting.tracing import smallest_side, trace
from exfuse.files import outputs, write_atomically
from exfuse.limits import Size
from exfuse.models.segmenter import Segmenter
from exfuse.runs.asked import finished
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.description import RunDescription
from exfuse.tasks.prediction import check_view
from exfuse.terminal import Console

TOLERANCE = 1e-4  # of the largest score
_EQUAL_PIXELS = 0.999  # chosen: rounding may decide a tie otherwise
_CHECKED = 3  # images
_SIDE = 450  # pixels of a generated scene


def export(
    run: str,
    format: Literal["onnx", "torch"],
    size: Size | None,
    output: str | None,
    hub: str | None = None,
    licence: str = "unknown",
    push: bool = False,
) -> Path:
    """Write a run's model as one file, or with ``hub`` as a folder of the Hub's form, and return its path.

    Args:
        run: the folder of a finished run.
        format: of the file.
        size: the (H, W) that the file will take; None for any.
        output: where to; None for ``export/KEY.onnx`` or ``.pt2`` in the run's folder.
        hub, licence, push: see `exfuse.exporting.hub.publish`.

    Raises:
        UserError: if the run is missing, broken or unfinished, or its model cannot be exported, or the file differs from it.
    """
    if hub is not None:
        if format != "onnx" or size is not None:
            raise UserError("hub=: the Hub's folder holds weights for exfuse.load. Leave format and size out.")
        from exfuse.exporting.hub import publish  # the Hub's client, which nobody else needs

        return publish(run, hub, licence, push, output)
    if push:
        raise UserError("push=true: name the model at the Hub, hub=OWNER/NAME.")
    form = FORMATS[format]
    if size is not None:
        check_view(*size)
    if missing := [package for package in form.needs if find_spec(package) is None]:
        raise UserError(f"format={format} needs the package {missing[0]}: pip install 'exfuse[export]'.")
    folder = Path(run)
    record = finished(run)
    choose_device("cpu")
    model, trained, classes = load_checkpoint(folder)
    least = smallest_side(model)
    path = Path(output or folder / "export" / f"{record.key}{form.suffix}")
    if path.suffix != form.suffix:
        raise UserError(f"output={path}: a file of format={format} ends with {form.suffix}.")
    images, origin = _check_images(trained, size)
    if size is None and (small := [image.shape[1:] for image in images if min(image.shape[1:]) < least]):
        raise UserError(f"The run's images of {small[0]} pixels are smaller than {least} on a side: add size=[HEIGHT,WIDTH].")
    sizes = f"{size[0]}x{size[1]}" if size else f"any height and width of at least {least} pixels"
    console = Console()
    found: list[tuple[float, float]] = []

    def write(scratch: Path) -> None:
        with console.status("Tracing"):
            program = trace(model, size)
        with console.status("Writing"):
            form.write(scratch, program, describe_file(record, classes, sizes, size))
        with console.status("Checking"):
            found.append(agreement(model, form.load(scratch), images))

    of = [f"run {record.key} for {sizes}"]
    with outputs([path], of=of) if output else nullcontext():  # what lies in a run's folder is written here
        write_atomically(path, write)
    console.print(
        f"Checked on {origin}: scores differ by at most {found[0][0]:.1e} of the largest, "
        f"{found[0][1]:.3%} of the pixels have the same class.\n"
        f"{path} ({decimal(path.stat().st_size)}) takes any number of images of {sizes}.",
        soft_wrap=True,
    )
    return path


@torch.inference_mode()
def agreement(model: Segmenter, exported: Scoring, images: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Compare a file with the model that it was made from: the largest difference relative to the largest score, and the share
    of pixels of the same class, over all images.

    Args:
        model: unfused, in evaluation mode on the CPU.
        exported: from (B, channels, H, W) to (B, C, H, W).
        images: (3, H, W) each, normalised.

    Raises:
        UserError: if they differ by more than rounding.
    """
    difference, equal, pixels = 0.0, 0, 0
    for image in images:
        expected, got = model(torch.from_numpy(image)[None]).scores.numpy(), exported(image[None])
        if got.shape != expected.shape:
            raise UserError(f"The exported file gives scores of shape {got.shape} where the model gives {expected.shape}.")
        difference = max(difference, float(np.abs(got - expected).max() / np.abs(expected).max()))
        same = got.argmax(1) == expected.argmax(1)
        equal, pixels = equal + int(same.sum()), pixels + same.size
    if not (difference <= TOLERANCE and equal / pixels >= _EQUAL_PIXELS):
        raise UserError(
            f"The exported file does not say what the model says: scores differ by {difference:.1e} of the largest "
            f"(allowed {TOLERANCE:.0e}), {equal / pixels:.3%} of the pixels have the same class. No file is kept."
        )
    return difference, equal / pixels


def _check_images(run: RunDescription, size: Size | None) -> tuple[Sequence[NDArray[np.float32]], str]:
    """A few images as the run's model is scored on them, and what they are.

    Args:
        run: whose first val images they are where its data are at hand; else a generated scene.
        size: the (H, W) to scale them to; None leaves them as they are.
    """
    images, origin = _val_images(run) or ([_generated(bands_of(run.data).channels)], "a generated scene")
    if size is not None:
        images = [_resized(image, size) for image in images]
        run = replace(run, recipe=replace(run.recipe, long_side=None))
    transform = build_eval_transform(run)
    return [transform(image).numpy() for image in images], origin


def _generated(channels: int) -> NDArray[np.uint8]:
    return draw_scene(0, "val", 0, _SIDE)[0][..., [place % 3 for place in range(channels)]]


def _resized(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    channels = [Image.fromarray(channel) for channel in np.moveaxis(image, 2, 0)]
    resized = [channel.resize((size[1], size[0]), Image.Resampling.BILINEAR) for channel in channels]
    return np.stack([np.asarray(channel) for channel in resized], axis=2)


def _val_images(run: RunDescription) -> tuple[list[NDArray[np.uint8]], str] | None:
    root = run.data.settings.get("root")  # which a reader of one's own need not have
    if root is not None and not Path(root).is_dir():
        return None
    try:
        split = split_of(run, "val")
    except UserError:  # moved, incomplete or of another version: not what this command is about
        return None
    checked = range(min(_CHECKED, len(split)))
    return [split.image(position) for position in checked], f"{plural(len(checked), 'image')} of {split.name}"
