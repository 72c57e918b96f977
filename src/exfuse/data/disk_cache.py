"""Decoded samples in a file that every worker, process and later run maps into its memory."""

import hashlib
import json
import os
import shutil
import zlib
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from torch.utils.data import DataLoader

from exfuse.data.samples import Arrays, DecodedSamples, Layout, copy_into
from exfuse.errors import DataError
from exfuse.files import write_atomically, write_json
from exfuse.terminal import track

# Another release may decode or scale to other values.
_DECODERS = ("pillow", "opencv-python-headless", "albumentations", "numpy")
_FORMAT = 3


class DiskCache:
    """Reads samples from ``KEY.samples``; ``KEY.json`` lists their shapes and checksums.

    Each sample is checked against its checksum when a process first reads it. Samples are read-only.

    Args:
        path: of the samples, made by `open_disk_cache`.
        shapes: of each sample's arrays.
        checksums: CRC-32 of each sample.
    """

    def __init__(self, path: Path, shapes: list[Any], checksums: list[int]) -> None:
        self.path, self.layout, self.checksums = path, Layout(shapes), checksums
        self._checked = np.zeros(len(self.layout), dtype=bool)
        self._samples = np.memmap(path, mode="r")

    def __len__(self) -> int:
        return len(self.layout)

    def read(self, position: int) -> Arrays:
        """One sample.

        Raises:
            DataError: if the file is not what was written.
        """
        arrays = self.layout.views(self._samples, position)
        if not self._checked[position]:
            if _checksum(arrays) != self.checksums[position]:
                raise DataError(
                    f"{self.path} was altered after it was written. Delete it: the next run decodes the images anew."
                )
            self._checked[position] = True
        return arrays

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "shapes": self.layout.shapes, "checksums": self.checksums}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def open_disk_cache(source: DecodedSamples, layout: Layout, folder: Path, workers: int = 0) -> DiskCache:
    """Open the file of these samples, writing it first where it is missing or cut short.

    Whoever comes second waits for the first. The list is written after the samples, both atomically.

    Args:
        source: where the samples come from.
        layout: of the source.
        folder: where such files lie.
        workers: processes that decode.

    Raises:
        DataError: if the disk has no room for it, or an image cannot be decoded.
    """
    path = folder / f"{_key(source)}.samples"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        listed = _read_list(path, layout)
        if listed is None:
            free = shutil.disk_usage(folder).free
            if layout.bytes > free:
                raise DataError(
                    f"The decoded images of {source.name} take {layout.bytes / 2**30:.1f} GiB, but {folder} has "
                    f"{free / 2**30:.1f} GiB free. Set paths.cache to another disk, or runtime.cache=none."
                )
            checksums: list[int] = []
            write_atomically(path, lambda scratch: checksums.extend(_fill(scratch, source, layout, workers)))
            listed = {"shapes": layout.shapes, "checksums": checksums}
            write_json(path.with_suffix(".json"), listed)
    return DiskCache(path, **listed)


def _key(source: DecodedSamples) -> str:
    made_by = {name: version(name) for name in _DECODERS}
    return hashlib.sha256(f"{_FORMAT} {source.identity()} {made_by}".encode()).hexdigest()[:16]


def _read_list(path: Path, layout: Layout) -> dict[str, Any] | None:
    """The list beside a whole file of such samples; None if either is missing, cut short or of other samples."""
    try:
        listed = json.loads(path.with_suffix(".json").read_text())
        whole = path.stat().st_size == layout.bytes and Layout(listed["shapes"]).shapes == layout.shapes
        return listed if whole and len(listed["checksums"]) == len(listed["shapes"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _decode(path: Path, source: DecodedSamples, layout: Layout, position: int) -> int:
    """Decode a sample into a file; its checksum."""
    views = layout.views(np.memmap(path, mode="r+"), position)
    copy_into(views, source.read(position), f"sample {position} of {source.name}")
    return _checksum(views)


def _fill(path: Path, source: DecodedSamples, layout: Layout, workers: int) -> list[int]:
    """Decode every sample into ``path``; return the checksums."""
    with path.open("wb") as file:
        # its space now: a write into a mapped file for which there is none later ends the process by SIGBUS
        os.posix_fallocate(file.fileno(), 0, layout.bytes) if hasattr(os, "posix_fallocate") else file.truncate(layout.bytes)
    decode = partial(_decode, path, source, layout)
    positions: Any = range(len(layout))  # a data set
    filling: DataLoader[int] = DataLoader(positions, batch_size=None, num_workers=workers, collate_fn=decode)
    return list(track(filling, f"Decoding {source.name}", len(layout), transient=True, disable=len(layout) < 100))


def _checksum(arrays: Arrays) -> int:
    value = 0
    for array in arrays:
        value = zlib.crc32(array.data, value)
    return value
