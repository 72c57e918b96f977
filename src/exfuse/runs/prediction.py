"""Masks and overlays for photographs without a truth."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from exfuse.analysis.pictures import save_mask, save_overlay
from exfuse.composition.reading import photographs_upright
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.pixels import read_image
from exfuse.errors import DataError
from exfuse.fusing.fuse import fuse
from exfuse.process import choose_device
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.tasks import prediction


def predict(checkpoint: Path, images: Sequence[Path], output: Path, device_name: str) -> None:
    """Write ``NAME.png`` (palette mask) and ``NAME_overlay.png`` for every image, at its own size.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        DataError: if an image is missing, cannot be decoded, or two have one name; the ones before it are written.
    """
    if twins := [stem for stem, number in Counter(image.stem for image in images).items() if number > 1]:
        raise DataError(f"Several images are called {twins[0]}: their masks would overwrite one another.")
    if missing := [image for image in images if not image.is_file()]:
        raise DataError(f"No image {missing[0]}. Check the path.")
    model, trained, classes = load_checkpoint(checkpoint)
    device = choose_device(device_name)
    # A mask is no score: it may come from the faster equivalent, which differs in rounding.
    model = fuse(model.to(device), portable=device.type != "cpu")
    transform = build_eval_transform(trained)
    upright = photographs_upright(trained.data)
    read = ((path, read_image(path, upright)) for path in track(images, description="Predicting", transient=True))
    asked = ((transform(image), image.shape[:2], (path, image)) for path, image in read)
    for found, (path, image) in prediction.predict(model, asked, device):
        ids = found.numpy()
        save_mask(output / f"{path.stem}.png", ids)
        save_overlay(output / f"{path.stem}_overlay.png", image, ids, classes)
    Console().print(f"{len(images)} masks and overlays: {output}")
