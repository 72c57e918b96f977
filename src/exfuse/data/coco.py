"""COCO's instances as segmentation of VOC's classes: annotations read, masks drawn and written once, images read with them.

The only file that knows pycocotools.
"""

import json
import multiprocessing
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from exfuse.data.contents import content_hashes
from exfuse.data.split import Item, Split, make_split
from exfuse.data.text import check_ids
from exfuse.errors import DataError, needing, repeated
from exfuse.files import decoded, sha256, write_atomically, write_json
from exfuse.limits import NonNegative, Orientation
from exfuse.palette import VOID, palette_image
from exfuse.terminal import track

# COCO's name of a category where it is not VOC's.
_COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
_PERSON = "person"


class Instance(NamedTuple):
    """One annotation of COCO.

    Attributes:
        id: of the annotation.
        label: class id in 0..C-1.
        crowd: whether it outlines a group without telling its members apart.
        shape: a list of polygons ``[x0, y0, x1, y1, ...]`` in pixels, or a run-length encoding ``{"size", "counts"}``.
    """

    id: int
    label: int
    crowd: bool
    shape: Any


def class_ids(categories: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> dict[int, int]:
    """Which of ``classes`` each of COCO's category ids is, by name; categories that are none of them are left out.

    Args:
        categories: of an annotation file, each with ``id`` and ``name``.
        classes: names of the ids 0..C-1, the first being the background.

    Raises:
        DataError: if a class has no category: the file is then no annotation file of COCO's 80 categories.
    """
    ids = {category["name"]: int(category["id"]) for category in categories}
    wanted = {label: _COCO_NAMES.get(name, name) for label, name in enumerate(classes) if label > 0}
    if missing := [name for name in wanted.values() if name not in ids]:
        raise DataError(f"COCO's annotations name no category {missing[0]!r} ({len(missing)} of {len(wanted)} are missing).")
    return {ids[name]: label for label, name in wanted.items()}


def rasterise(instances: Iterable[Instance], height: int, width: int, person: int | None) -> NDArray[np.uint8]:
    """Paint instances into one (height, width) mask: class ids, 0 where nothing is, 255 for void.

    Where several cover a pixel, the one painted last has it. In this order they are painted:

    1. things that are no persons, from the largest to the smallest, so that a cup-sized thing on a table survives;
    2. persons, from the largest to the smallest: COCO does not say who is in front, and a person who sits on, rides or holds
       a thing mostly is, while the thing's outline often runs across them;
    3. crowd regions, as void: what they hold is known only roughly.

    The size is the number of pixels that an instance covers; of two that are equal, the later annotation is painted later.
    Polygons of fewer than three points have no area and are left out. COCO draws no void border as VOC does; none is made up.

    Args:
        instances: of one image.
        height, width: of the image in pixels.
        person: the class id that goes first; None if there is none.

    Raises:
        DataError: if a shape is neither polygons nor a run-length encoding of this size.
    """
    covered = [(instance, covered_by(instance, height, width)) for instance in instances]

    def order(pair: tuple[Instance, NDArray[np.bool_]]) -> tuple[bool, bool, int, int]:
        instance, cover = pair
        return instance.crowd, instance.label == person, -int(cover.sum()), instance.id

    mask = np.zeros((height, width), dtype=np.uint8)
    for instance, cover in sorted(covered, key=order):
        mask[cover] = VOID if instance.crowd else instance.label
    return mask


def person_id(classes: Sequence[str]) -> int | None:
    """The class id of persons, if there are any."""
    return list(classes).index(_PERSON) if _PERSON in classes else None


def covered_by(instance: Instance, height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels an instance covers, (height, width)."""
    tool, shape = pycocotools_mask(), instance.shape
    try:
        if isinstance(shape, list):
            polygons = [polygon for polygon in shape if len(polygon) >= 6]
            if not polygons:
                return np.zeros((height, width), dtype=bool)
            encoded = tool.merge(tool.frPyObjects(polygons, height, width))
        else:
            if list(shape["size"]) != [height, width]:
                raise ValueError(f"a run-length encoding of size {shape['size']} in an image of {[height, width]}")
            runs = shape["counts"]
            if isinstance(runs, list) and (min(runs, default=0) < 0 or sum(runs) != height * width):
                raise ValueError(f"runs of {sum(runs)} pixels in an image of {height * width}")
            encoded = tool.frPyObjects(shape, height, width) if isinstance(runs, list) else shape
            if not isinstance(runs, list):  # too few are decoded to whatever lies in memory
                known = tool.encode(np.asfortranarray(tool.decode(encoded)))["counts"]
                if known != (runs if isinstance(runs, bytes) else str(runs).encode()):
                    raise ValueError("a run-length encoding that does not fill the image")
        return tool.decode(encoded).astype(bool)
    except Exception as error:  # pycocotools raises whatever its parser stumbles over
        raise DataError(f"annotation {instance.id} has a shape that cannot be drawn ({error!r}).") from error


def pycocotools_mask() -> ModuleType:
    """The module ``pycocotools.mask``.

    Raises:
        DataError: if it is not installed.
    """
    with needing("coco", "drawing COCO's masks", DataError):
        from pycocotools import mask
    return mask


# COCO's annotation file: its images, in order, with the instances of the wanted classes.


class AnnotatedImage(NamedTuple):
    """An image of COCO.

    Attributes:
        file: its name in the folder of images.
        height, width: in pixels.
        instances: those of the wanted classes alone, crowds among them.
    """

    file: str
    height: int
    width: int
    instances: tuple[Instance, ...]


def annotation_file(root: Path, split: str) -> Path:
    """Where COCO's layout keeps the instances of a split such as train2017."""
    return root / "annotations" / f"instances_{split}.json"


def read_annotations(path: Path, classes: Sequence[str]) -> list[AnnotatedImage]:
    """Every image of the file, by file name, those without an instance of ``classes`` included.

    Args:
        path: of instances_SPLIT.json.
        classes: names of the ids 0..C-1, the first being the background.

    Raises:
        DataError: if the file is missing, cut short or no such file, or lists an image twice.
    """
    if not path.is_file():
        raise DataError(
            f"No annotation file {path}. Set data.coco_root to the folder that holds COCO's annotations/, train2017/ and "
            "val2017/, or run `make data-coco`."
        )
    try:
        content = json.loads(path.read_bytes())
        labels = class_ids(content["categories"], classes)
        instances: dict[int, list[Instance]] = defaultdict(list)
        for annotation in content["annotations"]:
            if (label := labels.get(annotation["category_id"])) is not None:
                crowd = bool(annotation.get("iscrowd", 0))
                instances[annotation["image_id"]].append(Instance(annotation["id"], label, crowd, annotation["segmentation"]))
        images = [
            AnnotatedImage(image["file_name"], image["height"], image["width"], tuple(instances[image["id"]]))
            for image in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no whole annotation file of COCO ({type(error).__name__}: {error}). Fetch the annotations again."
        ) from error
    if twins := repeated(Path(image.file).stem for image in images):  # by which their masks will be called
        raise DataError(f"{path} lists an image twice, e.g. {twins[0]}.")
    check_ids((image.file for image in images), str(path))
    return sorted(images)


# COCO's annotations as palette PNGs of VOC's classes: written once, in pieces that survive an interruption, and verified.

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


class _Made(msgspec.Struct, frozen=True):
    """What a piece, or the index of all pieces, says: SHA-256 of each mask by image file, and what was left out and why."""

    source: MaskSource
    masks: dict[str, str]
    left_out: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> "_Made":
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
    _Made(source, masks, left_out).write(_piece_path(target, number))


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
    piece = decoded(_piece_path(target, number), _Made)
    if piece is None or piece.source != source:
        return False
    return all(sha256(mask_path(target, file)) == digest for file, digest in piece.masks.items())


def _finish(target: Path, pieces: int, source: MaskSource) -> dict[str, Any]:
    """Write the index of all pieces, if it is not there, and remove what it does not name."""
    parts = [_Made.read(_piece_path(target, number)) for number in range(pieces)]
    left_out = Counter[str]()
    for part in parts:
        left_out.update(part.left_out)
    index = _Made(source, {file: digest for part in parts for file, digest in part.masks.items()}, dict(left_out))
    path = target / "index.json"
    if decoded(path, _Made) != index:
        named = {mask_path(target, file) for file in index.masks}
        for stale in set((target / "masks").glob("*")) - named:
            stale.unlink()
        for stale in (target / "pieces").glob("*"):
            if not stale.stem.isdecimal() or int(stale.stem) >= pieces:  # what a killed start had half written goes, too
                stale.unlink()
        index.write(path)
    plain: dict[str, Any] = msgspec.to_builtins(index)
    return plain


# COCO's images that hold VOC's classes, with the masks that `exfuse data prepare coco-masks` made of its annotations.


def read_coco(
    root: str | Path,
    splits: Sequence[str],
    classes: Sequence[str],
    minimum_pixels: NonNegative,
    name: str = "COCO",
    orientation: Orientation = "stored",
) -> Split:
    """Read the images of one or several of COCO's splits as one training set.

    Args:
        root: COCO's folder, with a folder of images for each split and voc_masks/.
        splits: such as train2017 and val2017.
        classes: names of the ids 0..C-1; 255 is void.
        minimum_pixels: an image with fewer pixels of the classes was left out.
        name: of the data set, for messages.
        orientation: see `make_split`; COCO's outlines are of the pixels as they are stored.

    Raises:
        DataError: if the masks are missing, were made otherwise or not to the end; or see `make_split`.
    """
    root, items = Path(root), list[Item]()
    for split in splits:
        store = store_folder(root, split)
        masks = _read_index(store, annotation_file(root, split), classes, minimum_pixels).masks
        items += [Item(Path(file).stem, root / split / file, mask_path(store, file)) for file in masks]
    return make_split(f"{name} {'+'.join(splits)}", items, classes, orientation=orientation)


def _read_index(store: Path, annotations: Path, classes: Sequence[str], minimum_pixels: int) -> _Made:
    command = f"exfuse data prepare coco-masks data.coco_root={store.parent.parent} data.minimum_pixels={minimum_pixels}"
    path = store / "index.json"
    if not path.is_file():
        raise DataError(f"COCO's masks are not there, or not all: no {path}.\nMake them, or go on making them: {command}")
    try:
        index = _Made.read(path)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise DataError(f"{path} is cut short or altered. Delete it and make it again: {command}") from error
    check_ids(index.masks, str(path))
    # where the annotations are gone, the masks stand for themselves
    made_from = content_hashes([annotations])[0] if annotations.is_file() else index.source.annotations
    asked = MaskSource(RULES, made_from, tuple(classes), minimum_pixels)
    for key in MaskSource.__struct_fields__:
        if (made := getattr(index.source, key)) != (wanted := getattr(asked, key)):
            made, wanted = (list(value) if isinstance(value, tuple) else value for value in (made, wanted))
            raise DataError(f"{path} describes masks made with {key} {made}; {wanted} is wanted. Make them: {command}")
    return index
