"""Predict a list of images without masks and pack the result for VOC's evaluation server."""

import io
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from exfuse.composition.segmentation import build_eval_transform, build_protocol
from exfuse.data.split import read_image, read_list
from exfuse.errors import CheckpointError, ConfigError, DataError
from exfuse.files import sha256, write_atomically
from exfuse.palette import voc_palette
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.device import choose_device
from exfuse.runs.submission_archive import COMPETITIONS, results_folder, write_archive
from exfuse.runs.submission_check import Size, check_archive

_HINT = (
    "VOC's test images are handed out by the evaluation server (host.robots.ox.ac.uk:8080) after registration: unpack "
    "VOC2012test.tar in the folder that holds VOCdevkit."
)


def make_submission(config: DictConfig) -> None:
    """Predict every listed image at its own size by ``config.protocol`` and write the archive, whole and checked or not at all.

    Raises:
        ConfigError: if no run is named or the competition is none.
        CheckpointError: if the checkpoint cannot be used or scores other classes.
        DataError: if an image is missing, cannot be decoded, or there are more or fewer than ``count``.
    """
    folder, sizes = _folder(config), image_sizes(config)
    if OmegaConf.is_missing(config, "run"):
        raise ConfigError("run is not set: add run=outputs/runs/KEY, the run whose model is to predict.")
    run = Path(config.run)
    path = Path(config.archive or Path("outputs/submissions") / f"{_name(run)}_{config.competition}.tar.gz")
    if not path.name.endswith((".tar.gz", ".tgz")):
        raise ConfigError(f"archive={path}: expected a name that ends in .tar.gz or .tgz.")
    masks = list(_predict(config, run, sizes).items())

    def write(scratch: Path) -> None:
        write_archive(scratch, folder, masks)
        check_archive(scratch, folder, sizes, len(config.data.classes))

    write_atomically(path, write)
    console = Console()
    console.print(f"{path}: {len(sizes):,} masks in {folder}, checked, SHA-256 {sha256(path)[:16]}", soft_wrap=True)
    console.print(
        f"{config.competition}: {COMPETITIONS[config.competition]}. The server allows few submissions: see its rules."
    )


def check_submission(config: DictConfig) -> None:
    """Check an archive; see `exfuse.runs.submission_check.check_archive`.

    Raises:
        SubmissionError: for the first thing that is wrong with it.
        ConfigError: if none is named or the competition is none.
        DataError: as in `make_submission`.
    """
    if config.archive is None:
        raise ConfigError("archive is not set: add archive=FILE.tar.gz, the submission to be checked.")
    folder, sizes = _folder(config), image_sizes(config)
    check_archive(Path(config.archive), folder, sizes, len(config.data.classes))
    Console().print(f"{config.archive} is as the server wants it: {len(sizes):,} masks in {folder}.", soft_wrap=True)


def image_sizes(config: DictConfig) -> dict[str, Size]:
    """Width and height of every image that is to be predicted, by id, read from the files' headers.

    Raises:
        DataError: if the list or an image is missing, or their number is not ``config.count``.
    """
    root = Path(config.data.root)
    ids = read_list(root / "ImageSets" / "Segmentation" / f"{config.split}.txt", _HINT)
    if config.count is not None and len(ids) != config.count:
        raise DataError(
            f"VOC {config.split} lists {len(ids)} images where the server expects {config.count}. Complete it, or set count."
        )
    sizes = {}
    for id in ids:
        try:
            with Image.open(_image(root, id)) as image:
                sizes[id] = image.size
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{_image(root, id)} is missing or no image ({type(error).__name__}). {_HINT}") from error
    return sizes


@torch.inference_mode()
def _predict(config: DictConfig, run: Path, sizes: dict[str, Size]) -> dict[str, bytes]:
    model, trained, classes = load_checkpoint(run)
    if classes != list(config.data.classes):
        raise CheckpointError(
            f"{run} scores {len(classes)} classes ({', '.join(classes[:4])}, ...): the server's ids are VOC's "
            f"{len(config.data.classes)}. Choose a run that was trained on VOC."
        )
    device = choose_device(config.device)
    model.to(device)
    if trained.runtime.channels_last:  # the layout in which its training scored it
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decide, transform = build_protocol(config.protocol, trained), build_eval_transform(trained)
    predicted: dict[str, bytes] = {}
    for id, (width, height) in track(sizes.items(), description="Predicting", total=len(sizes)):
        image = read_image(_image(Path(config.data.root), id))
        ids = decide(model, transform(image)[None].to(device), (height, width))[0]
        mask, encoded = Image.fromarray(ids.cpu().numpy().astype(np.uint8)), io.BytesIO()
        mask.putpalette(voc_palette().tobytes())
        mask.save(encoded, "PNG")
        predicted[id] = encoded.getvalue()
    return predicted


def _folder(config: DictConfig) -> PurePosixPath:
    if config.competition not in COMPETITIONS:
        choices = "; ".join(f"{name} ({meaning})" for name, meaning in COMPETITIONS.items())
        raise ConfigError(f"competition={config.competition}: expected {choices}.")
    return results_folder(config.competition, config.split)


def _image(root: Path, id: str) -> Path:
    return root / "JPEGImages" / f"{id}.jpg"


def _name(run: Path) -> str:
    return run.name if run.is_dir() else run.parent.parent.name
