"""The archive that VOC's evaluation server takes: results/VOC2012/Segmentation/COMPETITION_test_cls/ID.png in a .tar.gz.

It is written here, and read to find everything that the server would refuse, and what it would not notice.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from exfuse.errors import SubmissionError, plural

_LARGEST = 32 << 20  # bytes of one mask: a palette PNG of a VOC image has some ten thousand
Size = tuple[int, int]  # width, height
COMPETITIONS = {
    "comp5": "trained on VOC's own data alone",
    "comp6": "trained on any data but the test's: ImageNet, SBD and COCO are such",
}


def results_folder(competition: str, split: str) -> PurePosixPath:
    """Where the server looks for the masks of a competition: comp5 or comp6."""
    return PurePosixPath("results", "VOC2012", "Segmentation", f"{competition}_{split}_cls")


def write_archive(path: Path, folder: PurePosixPath, masks: Iterable[tuple[str, bytes]]) -> None:
    """Write encoded masks as a .tar.gz whose bytes depend on nothing but them: no time, user or file name goes in.

    Args:
        path: of the archive.
        folder: in it, see `results_folder`.
        masks: id and PNG of each image, in any order.
    """
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for id, content in sorted(masks):
            member = tarfile.TarInfo(str(folder / f"{id}.png"))  # owner 0, time 0, mode 0644
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def check_archive(path: Path, folder: PurePosixPath, sizes: Mapping[str, Size], classes: int) -> None:
    """Read a submission to its end; nothing is unpacked to the disk.

    Args:
        path: a .tar.gz.
        folder: that its masks must lie in, see `results_folder`.
        sizes: width and height of every image that must be there, by id.
        classes: C; ids 0..C-1 may occur in a mask, void may not.

    Raises:
        SubmissionError: for the first thing that is wrong: a damaged archive, a member that is no file or lies elsewhere, an
            id that is not asked for, twice there or missing, or a mask that is no palette PNG of its image's size and ids.
    """
    if not path.is_file():
        raise SubmissionError(f"No archive {path}. Make one: exfuse submission make RUN")
    found: set[str] = set()
    for name, content in _files(path):
        id = _id_of(path, name, folder)
        if id not in sizes:
            raise SubmissionError(
                f"{path}: {name} is not asked for. Leave it out; only the {len(sizes):,} listed images belong in."
            )
        if id in found:
            raise SubmissionError(f"{path}: {name} is there twice. Keep one.")
        found.add(id)
        _check_mask(f"{path}: {name}", content, sizes[id], classes)
    if missing := sorted(set(sizes) - found):
        raise SubmissionError(f"{path} lacks {len(missing):,} of {plural(len(sizes), 'mask')}, e.g. {folder / missing[0]}.png.")


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file; folders on the way to it are skipped."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if member.name.startswith("/") or ".." in parts:
                    raise SubmissionError(f"{path}: {member.name} would be unpacked outside the server's folder. Rename it.")
                if member.isdir():
                    continue
                if not member.isfile():
                    raise SubmissionError(f"{path}: {member.name} is a link or device, not a file. Store the mask itself.")
                if member.size > _LARGEST:
                    raise SubmissionError(f"{path}: {member.name} has {member.size:,} bytes, which no mask has.")
                stored = archive.extractfile(member)
                assert stored is not None
                content = stored.read()
                if len(content) != member.size:
                    raise EOFError("a member is cut short")
                yield member.name, content
            assert archive.fileobj is not None
            while archive.fileobj.read(1 << 20):  # to the end, where gzip's checksum is
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise SubmissionError(
            f"{path} is no whole .tar.gz ({type(error).__name__}): it is cut short, altered or packed otherwise. Make it anew."
        ) from error


def _id_of(path: Path, name: str, folder: PurePosixPath) -> str:
    place = PurePosixPath(name)
    if place.parent != folder:
        raise SubmissionError(f"{path}: {name} does not lie in {folder}, where the server looks.")
    if place.suffix != ".png":
        raise SubmissionError(f"{path}: {name} is no .png. Leave it out; the masks alone belong in.")
    return place.stem


def _check_mask(what: str, content: bytes, size: Size, classes: int) -> None:
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as mask:
            if mask.mode != "P":
                raise SubmissionError(
                    f"{what} is in PIL mode {mask.mode}: expected P, a palette PNG whose values are class ids."
                )
            if mask.size != size:
                wide, high = mask.size
                raise SubmissionError(f"{what} is {wide}x{high}, its image {size[0]}x{size[1]} pixels. Predict at native size.")
            ids = np.unique(np.asarray(mask))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise SubmissionError(f"{what} cannot be decoded as PNG ({error}). Write it again.") from error
    if wrong := [int(id) for id in ids if id >= classes]:
        raise SubmissionError(f"{what} holds the ids {wrong[:5]}: expected 0..{classes - 1}, and no void.")
