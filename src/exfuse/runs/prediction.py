"""Masks and overlays for photographs without a truth."""

from collections.abc import Sequence
from pathlib import Path

import torch

from exfuse.analysis.pictures import save_mask, save_overlay
from exfuse.composition.reading import bands_of, photographs_upright
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.bands import as_rgb
from exfuse.devices import choose_device
from exfuse.errors import plural
from exfuse.files import outputs
from exfuse.fusing.fuse import fuse
from exfuse.limits import Device
from exfuse.runs.asked import masks_folder, masks_made_of, masks_of
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.tasks import prediction
from exfuse.terminal import Console, track


def predict(run: str, images: list[str], output: str | None, device: Device) -> None:
    """Write ``NAME.png`` (palette mask) and ``NAME_overlay.png`` for every image, at its own size.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        DataError: if an image is missing, or cannot be decoded; the ones before it are written.
        UserError: if a mask would take the place of an image, of another one's mask or of what was not written here.
    """
    paths, folder, where = [Path(image) for image in images], masks_folder(run, output), choose_device(device)
    with outputs(masks_of(paths, folder), paths, of=masks_made_of(run, paths, folder)):
        _predict(Path(run), paths, folder, where)
    Console().print(f"{plural(len(images), 'mask')} and {plural(len(images), 'overlay')}: {folder}", soft_wrap=True)


def _predict(run: Path, paths: Sequence[Path], folder: Path, where: torch.device) -> None:
    model, trained, classes = load_checkpoint(run)
    # A mask is no score: it may come from the faster equivalent, which differs in rounding.
    model = fuse(model.to(where))
    transform = build_eval_transform(trained)
    upright, bands = photographs_upright(trained.data), bands_of(trained.data)
    read = ((path, bands.read(path, upright)) for path in track(paths, description="Predicting", transient=True))
    asked = ((transform(image), image.shape[:2], (path, image)) for path, image in read)
    for found, (path, image) in prediction.predict(model, asked, where):
        ids = found.numpy()
        save_mask(folder / f"{path.stem}.png", ids, classes)
        save_overlay(folder / f"{path.stem}_overlay.png", as_rgb(image), ids, classes)
