"""Predict a list of images without masks and pack the result for VOC's evaluation server."""

import io
from pathlib import Path
from typing import Literal

import msgspec
from PIL import Image
from rich.console import Console
from rich.progress import track

from exfuse.composition.segmentation import build_eval_transform, build_protocol
from exfuse.data.pixels import image_size, read_image
from exfuse.data.text import read_ids
from exfuse.errors import CheckpointError, ConfigError, DataError
from exfuse.files import sha256, write_atomically
from exfuse.limits import Positive
from exfuse.palette import voc_palette
from exfuse.process import choose_device
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.submission_archive import COMPETITIONS, Size, check_archive, results_folder, write_archive
from exfuse.store.description import Option, Paths
from exfuse.tasks.prediction import predict

_HINT = (
    "VOC's test images are handed out by the evaluation server (host.robots.ox.ac.uk:8080) after registration: unpack "
    "VOC2012test.tar in the folder that holds VOCdevkit."
)


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What conf/submission_check.yaml asks for: an archive, the competition, and the data whose list it must hold."""

    competition: Literal["comp5", "comp6"]
    split: str
    data: Option
    paths: Paths
    archive: str | None = None
    count: Positive | None = None

    @property
    def root(self) -> Path:
        """Of the data in VOC layout."""
        return Path(self.data.settings["root"])

    @property
    def classes(self) -> list[str]:
        """Names of the server's ids."""
        return list(self.data.settings["classes"])


class Submission(Check, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What conf/submission_make.yaml asks for: beside these, the run, and where and how it predicts."""

    run: str
    protocol: Option
    device: str


def make_submission(asked: Submission) -> None:
    """Predict every listed image at its own size by the protocol and write the archive, whole and checked or not at all.

    Raises:
        ConfigError: if the archive's name is none.
        CheckpointError: if the checkpoint cannot be used or scores other classes.
        DataError: if an image is missing, cannot be decoded, or there are more or fewer than ``count``.
    """
    folder, sizes, run = results_folder(asked.competition, asked.split), image_sizes(asked), Path(asked.run)
    path = Path(asked.archive or Path("outputs/submissions") / f"{_name(run)}_{asked.competition}.tar.gz")
    if not path.name.endswith((".tar.gz", ".tgz")):
        raise ConfigError(f"archive={path}: expected a name that ends in .tar.gz or .tgz.")
    masks = list(_predict(asked, run, sizes).items())

    def write(scratch: Path) -> None:
        write_archive(scratch, folder, masks)
        check_archive(scratch, folder, sizes, len(asked.classes))

    write_atomically(path, write)
    console = Console()
    console.print(f"{path}: {len(sizes):,} masks in {folder}, checked, SHA-256 {sha256(path)[:16]}", soft_wrap=True)
    console.print(f"{asked.competition}: {COMPETITIONS[asked.competition]}. The server allows few submissions: see its rules.")


def check_submission(asked: Check) -> None:
    """Check an archive; see `exfuse.runs.submission_archive.check_archive`.

    Raises:
        SubmissionError: for the first thing that is wrong with it.
        ConfigError: if none is named.
        DataError: as in `make_submission`.
    """
    if asked.archive is None:
        raise ConfigError("archive is not set: add archive=FILE.tar.gz, the submission to be checked.")
    folder, sizes = results_folder(asked.competition, asked.split), image_sizes(asked)
    check_archive(Path(asked.archive), folder, sizes, len(asked.classes))
    Console().print(f"{asked.archive} is as the server wants it: {len(sizes):,} masks in {folder}.", soft_wrap=True)


def image_sizes(asked: Check) -> dict[str, Size]:
    """Width and height of every image that is to be predicted, by id, read from the files' headers.

    Raises:
        DataError: if the list or an image is missing, or their number is not ``count``.
    """
    root = asked.root
    ids = read_ids(root / "ImageSets" / "Segmentation" / f"{asked.split}.txt", _HINT)
    if asked.count is not None and len(ids) != asked.count:
        raise DataError(
            f"VOC {asked.split} lists {len(ids)} images where the server expects {asked.count}. Complete it, or set count."
        )
    if missing := [image for id in ids if not (image := _image(root, id)).is_file()]:
        raise DataError(f"{missing[0]} is missing. {_HINT}")
    return {id: image_size(_image(root, id)) for id in ids}


def _predict(asked: Submission, run: Path, sizes: dict[str, Size]) -> dict[str, bytes]:
    model, trained, classes = load_checkpoint(run)
    if classes != asked.classes:
        raise CheckpointError(
            f"{run} scores {len(classes)} classes ({', '.join(classes[:4])}, ...): the server's ids are VOC's "
            f"{len(asked.classes)}. Choose a run that was trained on VOC."
        )
    decide, transform = build_protocol(asked.protocol, trained), build_eval_transform(trained)
    predicted: dict[str, bytes] = {}
    items = track(sizes.items(), description="Predicting", total=len(sizes))
    images = ((transform(read_image(_image(asked.root, id))), (height, width), id) for id, (width, height) in items)
    for ids, id in predict(model, images, choose_device(asked.device), decide):
        mask, encoded = Image.fromarray(ids.numpy()), io.BytesIO()
        mask.putpalette(voc_palette().tobytes())
        mask.save(encoded, "PNG")
        predicted[id] = encoded.getvalue()
    return predicted


def _image(root: Path, id: str) -> Path:
    return root / "JPEGImages" / f"{id}.jpg"


def _name(run: Path) -> str:
    return run.name if run.is_dir() else run.parent.parent.name
