"""Annotations as polygons, of COCO's format or labelme's, converted once to the folder layout; pycocotools draws them."""

import contextlib
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exfuse.data.bands import Bands
from exfuse.data.coco_drawing import Instance, covered_by
from exfuse.data.pixels import image_size
from exfuse.data.text import check_ids, check_listed_names, read_class_names
from exfuse.errors import DataError, plural
from exfuse.files import check_folder, write_folder, write_new
from exfuse.limits import Text
from exfuse.palette import VOID, palette_image
from exfuse.terminal import Console, track

_TRIANGLE = 6  # numbers: what covers an area has no fewer
_CIRCLE = 64  # corners of the polygon that stands for one
_FARTHEST = 1e5  # pixels from the origin that a corner may lie
_ANY = Bands(1, (0.0, 1.0))  # images of any bits are taken: by which rule they are read is said where they are trained on
_CONVERTED = "converted annotations"  # see `exfuse.files.check_folder`
_BACKGROUND, _IGNORED = "_background_", "__ignore__"  # labelme's words


class _Drawn(NamedTuple):
    """An image to convert: its file, size, and shapes with their labels in the order in which they are painted.

    Attributes:
        by_size: whether the largest is painted first instead, and what is void last.
    """

    image: Path
    height: int
    width: int
    shapes: list[tuple[str, bool, Any]]
    by_size: bool = False


def convert(
    format: Literal["coco", "labelme"], annotations: Text, images: str | None, output: Text, split: Text, background: Text
) -> None:
    """Write ``OUTPUT/SPLIT/{images,labels}`` and ``OUTPUT/classes.txt``, which ``data=folder`` reads.

    Where shapes cover a pixel together, the one that stands later in the file has it; of COCO's format the larger is painted
    first. Crowds and labelme's ``__ignore__`` are void. A class list that is there already, of another split or written by
    hand, says which classes there are, and in which order.

    Args:
        format: ``coco``: one JSON of a split, as most tools export it; ``labelme``: a folder of JSON files, one an image.
        annotations: that file or folder.
        images: folder of the images; None for where the annotations lie.
        output: folder of the data set.
        split: train or val.
        background: name of class 0.

    Raises:
        DataError: if an annotation cannot be drawn, an image is missing, or a label is none of the class list's.
        UserError: if the split's folder was written by somebody else, or changed.
    """
    source, place = Path(annotations), Path(output) / split
    check_folder(place, _CONVERTED)
    drawn = [*(_of_coco if format == "coco" else _of_labelme)(source, Path(images) if images else None)]
    if not drawn:
        raise DataError(f"{source} annotates no image.")
    check_ids((one.image.stem for one in drawn), str(source))
    before = {path.name for path in (place / "images").glob("*")}
    if gone := sorted(before - {one.image.name for one in drawn}):
        raise DataError(
            f"{place} holds {plural(len(gone), 'image')} that {source} does not annotate, e.g. {gone[0]}. Is it another split "
            f"(split={split})? Else delete that folder."
        )
    for one in drawn:
        if (size := _size(one.image)) != (one.width, one.height) and size != (one.height, one.width):
            raise DataError(
                f"{source}: {one.image} has {size[0]}x{size[1]} pixels, and its annotations {one.width}x{one.height}."
            )
        for label, _, shape in one.shapes:
            for line in shape if isinstance(shape, list) else ():
                if not isinstance(line, list) or len(line) % 2 or not all(map(_is_place, line)):
                    raise DataError(f"{source}: {one.image.name} has a polygon of {label!r} that is no list of x, y, x, y, ...")
            if isinstance(shape, list) and not any(len(line) >= _TRIANGLE for line in shape):
                raise DataError(
                    f"{source}: {one.image.name} has a {label!r} without a polygon: a box, point or line alone covers no area. "
                    "Draw it, or take it out."
                )
    listed = Path(output) / "classes.txt"
    used = {label for one in drawn for label, void, _ in one.shapes if not void} - {_BACKGROUND}
    names = [*read_class_names(listed)] if listed.is_file() else [background, *sorted(used - {background})]
    check_listed_names(names, str(source))
    ids = {name: place for place, name in enumerate(names)} | {_BACKGROUND: 0}
    if unknown := sorted(used - {*ids}):
        raise DataError(f"{source} has the label {unknown[0]!r}, which {listed} does not list. Add it there, or rename it.")

    nowhere: list[str] = []  # shapes that cover no pixel, in the order of painting

    def write(scratch: Path) -> None:
        for part in ("images", "labels"):
            (scratch / part).mkdir()
        for one in track(drawn, f"Painting {split}", len(drawn)):
            _link(one.image, scratch / "images" / one.image.name)
            mask, missed = _paint(one, ids)
            nowhere.extend(f"{label!r} of {one.image.name}" for label in missed)
            palette_image(mask).save(scratch / "labels" / f"{one.image.stem}.png")

    there, began = Path(output).exists(), _begin(listed, names)
    try:
        write_folder(place, write, checked=True, of=_CONVERTED)
    except BaseException:
        if began and [*Path(output).iterdir()] == [listed]:
            listed.unlink()
        if not there:
            with contextlib.suppress(OSError):
                Path(output).rmdir()
        raise
    Console().print(
        f"{place}: {plural(len(drawn), 'image')}, {plural(len(names), 'class')} ({listed}).", soft_wrap=True, highlight=False
    )
    if nowhere:
        print(
            f"Note: {plural(len(nowhere), 'shape')} of {source} without a pixel, e.g. {nowhere[0]}: outside of the image, or "
            "thinner than a pixel. Look whether the corners belong to another image or size.",
            file=sys.stderr,
        )


def _begin(listed: Path, names: Sequence[str]) -> bool:
    """Write the class list, before anything is painted by it, unless it is there; whether it was written.

    Raises:
        DataError: if another conversion wrote another one meanwhile.
    """
    is_new = write_new(listed, "\n".join([*names, ""]))
    if not is_new and [*read_class_names(listed)] != [*names]:
        raise DataError(f"{listed} was written meanwhile, with other classes. Start again, by that list.")
    return is_new


def _of_coco(path: Path, images: Path | None) -> Iterator[_Drawn]:
    content = _json(path)
    try:
        names = {category["id"]: str(category["name"]).strip() for category in content["categories"]}
        shapes: dict[Any, list[tuple[str, bool, Any]]] = {}
        for one in content["annotations"]:
            found = (names[one["category_id"]], bool(one.get("iscrowd", 0)), one["segmentation"])
            shapes.setdefault(one["image_id"], []).append(found)
        ids = {image["id"] for image in content["images"]}
        if len(ids) < len(content["images"]):
            raise DataError(f"{path} lists two images of one id. Export it again.")
        if astray := shapes.keys() - ids:
            raise DataError(
                f"{path} annotates image {min(map(repr, astray))} ({len(astray)} such), which its images do not list. Export "
                "it again, with all images, or without these annotations."
            )
        for image in content["images"]:
            name = Path(image["file_name"])
            if name.is_absolute() or ".." in name.parts:
                raise DataError(f"{path} annotates {name}, which leaves the images' folder. Write names below it (images=DIR).")
            where = _image((images or path.parent) / name, path)
            yield _Drawn(where, int(image["height"]), int(image["width"]), shapes.get(image["id"], []), by_size=True)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is no annotation file in COCO's format ({type(error).__name__}: {error}): expected images, categories and "
            "annotations with segmentation. Export the polygons of instances."
        ) from error


def _of_labelme(folder: Path, images: Path | None) -> Iterator[_Drawn]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: labelme writes a JSON file beside each image. Name their folder.")
    others = []
    for path in sorted(folder.rglob("*.json")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        content, below = _json(path), path.parent.relative_to(folder)
        if below.parts and not (isinstance(content, dict) and "shapes" in content):
            others.append(path)
            continue
        try:
            if unnamed := [shape for shape in content["shapes"] if not isinstance(shape["label"], (str, int))]:
                raise TypeError(f"the label {unnamed[0]['label']}")
            labelled = [(str(shape["label"]).strip(), shape) for shape in content["shapes"]]
            shapes = [(label, label == _IGNORED, _polygon(shape, path)) for label, shape in labelled]
            name = content["imagePath"].replace("\\", "/")
            places = [images / below / Path(name).name, images / Path(name).name] if images else [path.parent / name]
            where = _image(next(filter(Path.is_file, places), places[-1]), path)
            yield _Drawn(where, int(content["imageHeight"]), int(content["imageWidth"]), shapes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path} is no annotation of labelme ({type(error).__name__}: {error}): expected shapes with label and points, "
                "imagePath, imageHeight and imageWidth."
            ) from error
    if others:
        print(f"Note: left out, being no annotations of labelme: {', '.join(map(str, others))}.", file=sys.stderr)


def _polygon(shape: Mapping[str, Any], path: Path) -> list[list[float]]:
    points, kind = [(float(x), float(y)) for x, y in shape["points"]], shape.get("shape_type") or "polygon"
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif kind == "circle" and len(points) == 2:
        (x, y), (rim_x, rim_y) = points
        radius, turns = math.hypot(rim_x - x, rim_y - y), (2 * math.pi * step / _CIRCLE for step in range(_CIRCLE))
        points = [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]
    elif kind not in ("polygon", "rectangle") or len(points) < 3:
        raise DataError(
            f"{path} has a {kind} of {plural(len(points), 'point')}, labelled {shape['label']!r}: only polygons, rectangles "
            "and circles have an area. Redraw it, or take it out."
        )
    return [[number for point in points for number in point]]


def _paint(one: _Drawn, ids: Mapping[str, int]) -> tuple[NDArray[np.uint8], list[str]]:
    """The image's mask, and the labels of the shapes that cover none of its pixels."""

    def cover(shape: tuple[str, bool, Any]) -> NDArray[np.bool_]:
        try:
            return covered_by(Instance(0, 0, shape[1], shape[2]), one.height, one.width)
        except DataError as error:
            raise DataError(f"{one.image}: {error}") from error

    shapes = one.shapes
    if one.by_size:  # as counted: what files say of areas may be missing, or of another size
        shapes = sorted(shapes, key=lambda shape: (shape[1], -int(cover(shape).sum())))
    mask, missed = np.zeros((one.height, one.width), np.uint8), []
    for shape in shapes:  # drawn again: all at once would be too many for the memory
        covered = cover(shape)
        mask[covered] = VOID if shape[1] else ids[shape[0]]
        if not covered.any():
            missed.append(shape[0])
    return mask, missed


def _is_place(value: Any) -> bool:
    """Whether this is a coordinate that can be drawn: corners far out or nowhere would be drawn for ever."""
    return isinstance(value, (int, float)) and abs(value) <= _FARTHEST


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"No annotation file {path}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON file ({error}). Export it again.") from error


def _image(path: Path, annotation: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{annotation} annotates {path}, which does not exist. Name the folder of the images: images=DIR.")
    if path.suffix.lower() not in _ANY.formats:
        raise DataError(f"{annotation} annotates {path}, but data=folder reads {', '.join(sorted(_ANY.formats))}. Convert it.")
    return path


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image, of whatever channels and bits."""
    try:
        return image_size(path)
    except DataError:
        return _ANY.size(path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk
        shutil.copy2(source, target)
