"""COCO's annotations as palette PNGs of VOC's classes: written once, in pieces that survive an interruption, and verified."""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from filelock import FileLock
from PIL import Image

from exfuse.data.coco_annotations import AnnotatedImage, annotation_file, read_annotations
from exfuse.data.coco_drawing import person_id, rasterise
from exfuse.errors import DataError
from exfuse.files import decoded, sha256, write_atomically, write_json
from exfuse.palette import VOID, palette_image
from exfuse.terminal import track

RULES = 1  # raise it whenever the same annotations would be painted otherwise
_PIECE = 500  # images


class MaskSource(msgspec.Struct, frozen=True):
    """What a store of masks is made from; a store of anything else is made anew.

    Attributes:
        rules: version of the painting.
        annotations: SHA-256 of the annotation file.
        classes: names of the ids.
        minimum_pixels: an image with fewer pixels of the classes, background not counted, is left out.
    """

    rules: int
    annotations: str
    classes: tuple[str, ...]
    minimum_pixels: int


class Made(msgspec.Struct, frozen=True):
    """What a piece, or the index of all pieces, says: SHA-256 of each mask by image file, and what was left out and why."""

    source: MaskSource
    masks: dict[str, str]
    left_out: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> "Made":
        """From a file that `write_json` wrote.

        Raises:
            OSError, msgspec.MsgspecError: if it is missing, cut short or altered.
        """
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> None:
        write_json(path, msgspec.to_builtins(self))


def store_folder(root: Path, split: str) -> Path:
    """Where the masks of a split lie: ``masks/``, ``pieces/`` (what is done) and ``index.json`` (written last)."""
    return root / "voc_masks" / split


def convert_split(root: Path, split: str, classes: Sequence[str], minimum_pixels: int, workers: int = 1) -> dict[str, Any]:
    """Convert one split, or what is missing of it; damaged masks are made again.

    Args:
        root: COCO's folder, with annotations/ and a folder of images for each split.
        split: such as train2017.
        classes: names of the ids 0..C-1, the first being the background.
        minimum_pixels: see `MaskSource`.
        workers: processes. Their number changes no byte.

    Returns:
        The index: ``source``, ``masks`` (SHA-256 by image file, sorted), ``left_out`` (number of images by reason) and
        ``remade`` (how many pieces were made now).

    Raises:
        DataError: see `read_annotations`; or if a shape cannot be drawn.
    """
    annotations, target = annotation_file(root, split), store_folder(root, split)
    images = read_annotations(annotations, classes)
    source = MaskSource(RULES, sha256(annotations), tuple(classes), minimum_pixels)
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{split}.lock"):
        pieces = [images[first : first + _PIECE] for first in range(0, len(images), _PIECE)]
        missing = [number for number in range(len(pieces)) if not _is_whole(target, number, source)]
        if missing or not (target / "index.json").is_file():
            (target / "index.json").unlink(missing_ok=True)  # what it promises is about to change
            made = _convert(target, [(number, pieces[number]) for number in missing], source, workers)
            for _ in track(made, f"Masks of {split}, {_PIECE} images each", len(missing)):
                pass
        return _finish(target, len(pieces), source) | {"remade": len(missing)}


def _convert(target: Path, todo: list[tuple[int, list[AnnotatedImage]]], source: MaskSource, workers: int) -> Iterator[None]:
    if workers <= 1:
        for piece in todo:
            _convert_piece(target, *piece, source)
            yield
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the progress bar's thread in the midst of its work
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_leave_ctrl_c_to_the_parent) as pool:
        try:
            for done in as_completed([pool.submit(_convert_piece, target, *piece, source) for piece in todo]):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # pieces under way are finished, no further one is begun
            raise


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _convert_piece(target: Path, number: int, images: list[AnnotatedImage], source: MaskSource) -> None:
    person = person_id(source.classes)
    masks: dict[str, str] = {}
    left_out = {"without the classes": 0, "too few pixels": 0}
    for image in images:
        if not image.instances:
            left_out["without the classes"] += 1
            continue
        try:
            ids = rasterise(image.instances, image.height, image.width, person)
        except DataError as error:
            raise DataError(f"COCO, {image.file}: {error} Fetch the annotations again.") from error
        if np.count_nonzero((ids != 0) & (ids != VOID)) < source.minimum_pixels:
            left_out["too few pixels"] += 1
            continue
        masks[image.file] = _write_mask(mask_path(target, image.file), ids)
    Made(source, masks, left_out).write(_piece_path(target, number))


def _write_mask(path: Path, ids: np.ndarray) -> str:
    """Write a palette PNG, read it back and return its hash."""
    write_atomically(path, lambda scratch: palette_image(ids).save(scratch))
    with Image.open(path) as written:
        if not np.array_equal(np.asarray(written), ids):
            raise DataError(f"{path} does not hold what was written to it. Check the disk.")
    return sha256(path)


def mask_path(store: Path, file: str) -> Path:
    """The mask of an image in a store."""
    return store / "masks" / f"{Path(file).stem}.png"


def _piece_path(target: Path, number: int) -> Path:
    return target / "pieces" / f"{number:05d}.json"


def _is_whole(target: Path, number: int, source: MaskSource) -> bool:
    """Whether a piece was made from ``source`` and every one of its masks is the one that was written."""
    piece = decoded(_piece_path(target, number), Made)
    if piece is None or piece.source != source:
        return False
    return all(sha256(mask_path(target, file)) == digest for file, digest in piece.masks.items())


def _finish(target: Path, pieces: int, source: MaskSource) -> dict[str, Any]:
    """Write the index of all pieces, if it is not there, and remove what it does not name."""
    parts = [Made.read(_piece_path(target, number)) for number in range(pieces)]
    left_out = Counter[str]()
    for part in parts:
        left_out.update(part.left_out)
    index = Made(source, {file: digest for part in parts for file, digest in part.masks.items()}, dict(left_out))
    path = target / "index.json"
    if decoded(path, Made) != index:
        named = {mask_path(target, file) for file in index.masks}
        for stale in set((target / "masks").glob("*")) - named:
            stale.unlink()
        for stale in (target / "pieces").glob("*"):
            if not stale.stem.isdecimal() or int(stale.stem) >= pieces:  # what a killed start had half written goes, too
                stale.unlink()
        index.write(path)
    plain: dict[str, Any] = msgspec.to_builtins(index)
    return plain
