"""Predict a list of images without masks and pack the result for VOC's evaluation server."""

import io
from pathlib import Path
from typing import Literal

from exfuse.composition.segmentation import build_eval_transform, build_protocol
from exfuse.config.own_code import code_of_options
from exfuse.data.pixels import image_size, read_image
from exfuse.data.text import read_id_list
from exfuse.devices import choose_device
from exfuse.errors import CheckpointError, ConfigError, DataError, classes_text, plural
from exfuse.files import outputs, sha256, write_atomically
from exfuse.limits import Device, Positive
from exfuse.palette import palette_image
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.submission_archive import COMPETITIONS, Size, check_archive, results_folder, write_archive
from exfuse.store.description import Option
from exfuse.store.folder import RunFolder
from exfuse.tasks.prediction import predict
from exfuse.terminal import Console, track

_HINT = (
    "VOC's test images are handed out by the evaluation server (host.robots.ox.ac.uk:8080) after registration: unpack "
    "VOC2012test.tar in the folder that holds VOCdevkit."
)


def make_submission(
    run: str,
    archive: str | None,
    protocol: Option,
    device: Device,
    competition: Literal["comp5", "comp6"],
    split: str,
    count: Positive | None,
    data: Option,
) -> None:
    """Predict every listed image at its own size by the protocol and write the archive, whole and checked or not at all.

    Args:
        run: a run's folder or a .ckpt file.
        archive: to write; None for one below outputs/submissions.
        protocol: scales, mirror images and windows.
        device: to predict on.
        competition, split, count, data: see `check_submission`.

    Raises:
        ConfigError: if the archive's name is none.
        CheckpointError: if the checkpoint cannot be used or scores other classes.
        DataError: if an image is missing, cannot be decoded, or there are more or fewer than ``count``.
    """
    folder, sizes = results_folder(competition, split), image_sizes(data, split, count)
    trained = Path(run)
    path = Path(archive or Path("outputs/submissions") / f"{RunFolder.name_of(trained)}_{competition}.tar.gz")
    if not path.name.endswith((".tar.gz", ".tgz")):
        raise ConfigError(f"archive={path}: expected a name that ends in .tar.gz or .tgz.")

    def write(scratch: Path) -> None:
        masks = list(_predict(trained, data, protocol, device, sizes).items())
        write_archive(scratch, folder, masks)
        check_archive(scratch, folder, sizes, len(data.settings["classes"]))

    images = f"{plural(len(sizes), 'image')} of {data.settings['root']} for {folder}"
    code = code_of_options([("protocol", protocol.name)])
    of = f"run {RunFolder.identity_of(trained)} on {images} by {protocol.name} {dict(protocol.settings)}{code or ''}"
    with outputs([path], of=[of]):
        write_atomically(path, write)
    console = Console()
    console.print(f"{path}: {len(sizes):,} masks in {folder}, checked, SHA-256 {sha256(path)[:16]}", soft_wrap=True)
    console.print(f"{competition}: {COMPETITIONS[competition]}. The server allows few submissions: see its rules.")


def check_submission(
    archive: str | None, competition: Literal["comp5", "comp6"], split: str, count: Positive | None, data: Option
) -> None:
    """Check an archive; see `exfuse.runs.submission_archive.check_archive`.

    Args:
        archive: to check.
        competition: that it is for.
        split: whose list of images it must hold.
        count: how many images the server expects; None for any number.
        data: in VOC layout, with the server's classes.

    Raises:
        SubmissionError: for the first thing that is wrong with it.
        ConfigError: if none is named.
        DataError: as in `make_submission`.
    """
    if archive is None:
        raise ConfigError("archive is not set: add archive=FILE.tar.gz, the submission to be checked.")
    folder, sizes = results_folder(competition, split), image_sizes(data, split, count)
    check_archive(Path(archive), folder, sizes, len(data.settings["classes"]))
    Console().print(f"{archive} is as the server wants it: {len(sizes):,} masks in {folder}.", soft_wrap=True)


def image_sizes(data: Option, split: str, count: int | None) -> dict[str, Size]:
    """Width and height of every image that is to be predicted, by id, read from the files' headers.

    Raises:
        DataError: if the list or an image is missing, or their number is not ``count``.
    """
    root = Path(data.settings["root"])
    ids = read_id_list(root / "ImageSets" / "Segmentation" / f"{split}.txt", _HINT)
    if count is not None and len(ids) != count:
        raise DataError(f"VOC {split} lists {len(ids)} images where the server expects {count}. Complete it, or set count.")
    if missing := [image for id in ids if not (image := _image(root, id)).is_file()]:
        raise DataError(f"{missing[0]} is missing. {_HINT}")
    return {id: image_size(_image(root, id)) for id in ids}


def _predict(run: Path, data: Option, protocol: Option, device: Device, sizes: dict[str, Size]) -> dict[str, bytes]:
    model, trained, classes = load_checkpoint(run)
    if classes != list(data.settings["classes"]):
        raise CheckpointError(
            f"{run} scores {classes_text(classes)}: the server's ids are VOC's "
            f"{len(data.settings['classes'])}. Choose a run that was trained on VOC."
        )
    decide, transform = build_protocol(protocol, trained), build_eval_transform(trained)
    root, predicted = Path(data.settings["root"]), dict[str, bytes]()
    items = track(sizes.items(), description="Predicting", total=len(sizes))
    images = ((transform(read_image(_image(root, id))), (height, width), id) for id, (width, height) in items)
    for ids, id in predict(model, images, choose_device(device), decide):
        palette_image(ids.numpy()).save(encoded := io.BytesIO(), "PNG")
        predicted[id] = encoded.getvalue()
    return predicted


def _image(root: Path, id: str) -> Path:
    return root / "JPEGImages" / f"{id}.jpg"
