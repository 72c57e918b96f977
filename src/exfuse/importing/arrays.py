"""Pixels that other code counted image by image, in arrays of which nothing pickled is read."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from exfuse.errors import UserError, plural
from exfuse.importing.stated import PAGE, Found, Ids, RunFile, check_image, read_bytes, refuse_twins
from exfuse.metrics.iou import Areas

_MOST_NUMBERS = 1 << 28  # in an array: 2 GiB of counts
_COUNTED = {"counts": ("counts",), "areas": ("hit", "true", "predicted"), "rates": ("tp", "fp", "fn")}


def counted_run(path: Path, run: RunFile, file: Path) -> Found:
    """A run whose pixels were counted image by image."""
    arrays = _arrays(file)
    forms_there = [names for names in _COUNTED.values() if {*names} <= {*arrays}]
    if len(forms_there) > 1:
        raise UserError(f"{file} counts twice, by {' and by '.join(', '.join(names) for names in forms_there)}: keep one.")
    form = next(iter(forms_there), None)
    if form is None or "ids" not in arrays:
        forms = " or ".join(", ".join(names) for names in _COUNTED.values())
        raise UserError(f"{file} holds {', '.join(sorted(arrays)) or 'nothing'}: expected ids and {forms}. {PAGE}")
    ids = _names(arrays["ids"], f"{file}, ids")
    refuse_twins(ids, f"{file}, ids")
    counts = [_whole(arrays[name], f"{file}, {name}", 3 if name == "counts" else 2, len(ids)) for name in form]
    if len({one.shape for one in counts}) > 1:
        raise UserError(f"{file}: {', '.join(form)} have shapes {', '.join(str(one.shape) for one in counts)}: expected one.")
    if form == _COUNTED["counts"] and counts[0].shape[1] != counts[0].shape[2]:
        raise UserError(f"{file}, counts has shape {counts[0].shape}: expected (images, classes, classes).")
    areas = _areas(form, counts)
    wrong = (areas.hit > areas.true) | (areas.hit > areas.predicted)
    if wrong.any():
        image, which = (int(place) for place in np.argwhere(wrong)[0])
        raise UserError(
            f"{file} does not add up: image {ids[image]}, class {which}, has {areas.hit[image, which]} pixels hit of "
            f"{areas.true[image, which]} true and {areas.predicted[image, which]} predicted ones."
        )
    if not areas.true.any():
        raise UserError(f"{file} counts no true pixel in any image.")
    groups = _names(arrays["groups"], f"{file}, groups") if "groups" in arrays else None
    if groups is not None and len(groups) != len(ids):
        raise UserError(f"{file} names {plural(len(groups), 'group')} of {plural(len(ids), 'image')}: expected one of each.")
    return Found(path, run, ids, areas, groups, counts[0].sum(0) if form == _COUNTED["counts"] else None)


def _areas(form: Sequence[str], counts: Sequence[NDArray[np.int64]]) -> Areas:
    if form == _COUNTED["counts"]:
        return Areas.of_counts(counts[0])
    if form == _COUNTED["areas"]:
        return Areas(*counts)
    hit, false, missed = counts
    return Areas(hit, hit + missed, hit + false)


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz that may be used; what is pickled is never read."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size == 0:
        read_bytes(file, 0)
    known = {"ids", "groups", *(name for names in _COUNTED.values() for name in names)}
    found = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                if name in known:
                    with archive.open(member) as opened:
                        found[name] = _array(opened, f"{file}, {name}")
    except UserError:
        raise
    except Exception as error:  # of zip, four ways of compressing and a header that is Python: of any kind
        raise UserError(f"{file} is no whole .npz file ({' '.join(str(error).split())}). Write it anew by np.savez.") from error
    return found


def _array(opened: Any, where: str) -> NDArray[Any]:
    """One array, whose header is held against what may be read before any of it is."""
    version = npy.read_magic(opened)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_column, kind = read(opened)
    if kind.hasobject:
        raise UserError(
            f"{where} holds pickled objects, which are never read: write it as numbers, or names by np.array(names, str)."
        )
    if kind.kind not in "iufUS":
        raise UserError(f"{where} holds {kind}: expected numbers, or names.")
    number = math.prod(shape)
    if number > _MOST_NUMBERS or number * kind.itemsize > 8 * _MOST_NUMBERS:
        raise UserError(
            f"{where} would have {number} numbers, expected {_MOST_NUMBERS} at most. Count areas (hit, true, predicted)."
        )
    content = opened.read(number * kind.itemsize)
    if len(content) < number * kind.itemsize:
        raise EOFError(f"{where} is cut short")
    return np.frombuffer(content, kind).reshape(shape, order="F" if by_column else "C")


def _whole(values: NDArray[Any], where: str, dimensions: int, images: int) -> NDArray[np.int64]:
    """Counts as whole numbers from 0 on."""
    if values.ndim != dimensions or values.shape[0] != images or values.size == 0:
        expected = ", ".join([str(images), "classes", "classes"][:dimensions])
        raise UserError(f"{where} has shape {values.shape}: expected ({expected}), an entry for each of the {images} ids.")
    if values.dtype.kind not in "iuf":
        raise UserError(f"{where} holds text: expected counts.")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise UserError(f"{where} holds what is not a number: expected counts.")
        if (values != np.rint(values)).any():
            fraction = values[values != np.rint(values)].flat[0]
            raise UserError(f"{where} holds {fraction:g}: counts are whole numbers of pixels, not shares of them.")
    if (values < 0).any():
        raise UserError(f"{where} holds {values.min():g}: counts are 0 or more.")
    if float(values.sum(dtype=np.float64)) > 2**53:
        raise UserError(f"{where} counts {values.sum(dtype=np.float64):g} pixels, more than any data set has.")
    return values.astype(np.int64)


def _names(values: NDArray[Any], where: str) -> Ids:
    """Names of images or groups, which may be numbers."""
    if values.ndim != 1 or values.dtype.kind == "f" or len(values) == 0:
        raise UserError(f"{where} has shape {values.shape} and holds {values.dtype}: expected a list of names.")
    try:
        names = tuple(one.decode() if isinstance(one, bytes) else str(one) for one in values.tolist())
    except UnicodeDecodeError as error:
        raise UserError(f"{where} holds names that are not in UTF-8.") from error
    for name in names:
        check_image(name, where)
    return names
