"""A trained model for use from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from exfuse.composition.reading import bands_of, photographs_upright
from exfuse.composition.segmentation import build_eval_transform
from exfuse.config import search_path
from exfuse.data.bands import RGB, Bands, is_scaled
from exfuse.data.pixels import ORIENTATION, Unfit, is_deep
from exfuse.data.transforms import EvalTransform
from exfuse.devices import choose_device
from exfuse.errors import DataError, UserError
from exfuse.models.segmenter import Segmenter
from exfuse.models.upsample import at_size
from exfuse.palette import class_palette
from exfuse.runs.asked import say_if_unfinished
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.find import find_run
from exfuse.store.published import WEIGHTS, Published
from exfuse.tasks.confusion import check_decided
from exfuse.tasks.segmentation import decided

_HUB = "hf-hub:"
Picture = Image.Image | NDArray[Any] | str | Path


class TrainedModel:
    """A run's model with what belongs to it.

    Attributes:
        model: from normalised images (B, bands, h, w) to `exfuse.models.segmenter.Prediction`; in evaluation mode.
        transform: from (H, W, C) uint8, usually RGB, to what the model takes, (C, h, w) float32.
        classes: names of the C classes.
        palette: (C, 3) uint8 RGB, their colours.
        upright: whether photographs are turned as their cameras say: unless the run's data are read as they are stored.
        bands: what is read of files.
    """

    def __init__(
        self,
        model: Segmenter,
        transform: EvalTransform,
        classes: Sequence[str],
        upright: bool = True,
        bands: Bands = RGB,
    ) -> None:
        self.model, self.transform, self.classes, self.upright, self.bands = model, transform, tuple(classes), upright, bands
        self.palette = class_palette(self.classes)[: len(self.classes)]

    def predict(self, image: Picture) -> NDArray[np.uint8]:
        """Class ids (H, W) at the image's own size.

        Args:
            image: of PIL, a file, or an array (H, W, C) or (H, W) of the values that a file holds: uint8, usually RGB, or where
                the run's data have a range any numbers, which it makes uint8. See ``upright`` for photographs of PIL and files.

        Raises:
            DataError: if it is no such image.
        """
        ids = decided(self._scores(image)[None])[0].byte().cpu()
        check_decided(ids)
        return ids.numpy()

    def scores(self, image: Picture) -> NDArray[np.float32]:
        """Scores before softmax, (C, H, W) at the image's own size; see `predict`."""
        return self._scores(image).float().cpu().numpy()

    @torch.inference_mode()
    def _scores(self, image: Picture) -> Tensor:
        pixels = self._pixels(image)
        device = next(self.model.parameters()).device
        return at_size(self.model(self.transform(pixels)[None].to(device)).scores, pixels.shape[:2])[0]

    def _pixels(self, image: Picture) -> NDArray[np.uint8]:
        if isinstance(image, (str, Path)):
            return self.bands.read(Path(image), self.upright)
        span = self.bands.range
        by_range = span is not None
        if not isinstance(image, (Image.Image, np.ndarray)):
            raise DataError(f"expected a file's path, an image of Pillow's or an array, got {type(image).__name__}.")
        if isinstance(image, Image.Image):
            deep, unread = image.mode[0] in "IF", isinstance(image, ImageFile.ImageFile) and bool(image.tile)
            if (deep and not by_range) or (not deep and unread and is_deep(image)):  # type: ignore[arg-type]
                raise DataError(
                    f"an image of Pillow's mode {image.mode} has more than 8 bits in its file, which would be cut off. "
                    "Give its file, or an array of uint8."
                )
            if by_range and is_scaled(image):
                raise DataError(
                    f"Pillow scales the values of this {image.format}, which data.range means as written. Give its file."
                )
            if not self.upright and unread and image.format == "TIFF" and image.getexif().get(ORIENTATION, 1) > 1:
                raise DataError(
                    "Pillow turns a TIFF with an orientation, and this model takes it as it is stored. Give its file."
                )
            turned = ImageOps.exif_transpose(image) if self.upright else image
            mode = turned.mode if deep else {1: "L", 4: turned.mode}.get(self.bands.channels, "RGB")
            image = np.asarray(turned.convert(mode))
        if np.ma.is_masked(image):
            raise DataError("an array with a mask of its own: what stands in its holes? Fill them (image.filled(VALUE)).")
        image = np.asarray(image)  # of a kind of array of its own, such as np.matrix, what it holds
        values, channels = image[..., None] if image.ndim == 2 else image, self.bands.channels
        known = {channels, 1} if channels == 3 else {channels, 3} if channels == 1 else {channels}  # as files may have
        fits = values.ndim == 3 and values.size and values.shape[2] in known
        if not fits or not (values.dtype.kind in "uif" if by_range else values.dtype == np.uint8):
            kind = "numbers" if by_range else "uint8"
            raise DataError(f"expected an image (height, width, {channels}) of {kind}, got {image.shape} of {image.dtype}.")
        try:
            read = self.bands.eight_bits(values)
        except Unfit as unfit:
            raise DataError(f"an image {unfit}") from unfit
        if span and read.min() == read.max() and image.min() < image.max():
            raise DataError(
                f"an image of values from {image.min():g} to {image.max():g} is all one colour in this model's data.range="
                f"[{span[0]:g},{span[1]:g}]. Give values as the files of its data hold them."
            )
        return read


def _fetched(name: str) -> Path:
    """The folder of a model at the Hub, in the Hub's own cache."""
    from huggingface_hub import snapshot_download

    model, _, revision = name.removeprefix(_HUB).partition("@")
    try:
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=[WEIGHTS, Published.INDEX]))
    except Exception as error:  # the client raises many kinds; all mean the same to the user
        raise UserError(
            f"{name} could not be fetched ({type(error).__name__}). Check its name and the network, or give a folder."
        ) from error


def load(
    run: str | Path, device: str = "cpu", runs: str | Path = "outputs/runs", config_dir: str | Path | None = None
) -> TrainedModel:
    """The trained model of a run. This process calculates float32 as such from here on, not as TensorFloat-32.

    Args:
        run: its name, its key or the first digits of it, its folder, a checkpoint, the folder that ``exfuse export hub=``
            wrote, or ``hf-hub:OWNER/NAME`` of Hugging Face's Hub, with ``@REVISION`` behind it for one of several. Nothing of
            it is run.
        device: cpu, cuda, or auto for a GPU where there is one.
        runs: the folder that holds the runs.
        config_dir: a folder of config files of one's own, which this process uses from here on.

    Raises:
        UserError: if no run, or several, are called so.
        CheckpointError: if its checkpoint is missing or broken.
    """
    if config_dir is not None:
        search_path.use([config_dir])
    path = _fetched(str(run)) if str(run).startswith(_HUB) else find_run(str(run), Path(runs))
    model, described, classes = load_checkpoint(path)
    say_if_unfinished(path)
    return TrainedModel(
        model.to(choose_device(device)),
        build_eval_transform(described),
        classes,
        photographs_upright(described.data),
        bands_of(described.data),
    )
