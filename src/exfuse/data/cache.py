"""Decoded samples in one flat buffer, in memory that a loader's workers share or in a file that later runs map, too."""

import hashlib
import json
import mmap
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import accumulate, islice
from math import prod
from multiprocessing import reduction
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from filelock import FileLock
from torch.utils.data import DataLoader

from exfuse.errors import ConfigError, DataError
from exfuse.files import write_atomically, write_json
from exfuse.process import memory_limit
from exfuse.terminal import track

Shapes = tuple[tuple[int, ...], ...]
Arrays = Sequence[np.ndarray]


class Samples(Protocol):
    """What is the same in every epoch: decoded, and scaled where scaling comes first. All arrays are uint8, to be read only."""

    def __len__(self) -> int: ...

    def read(self, position: int) -> Arrays:
        """One sample.

        Raises:
            DataError: if a file is not what it should be.
        """


class DecodedSamples(Samples, Protocol):
    """Samples as they are decoded from their files.

    Attributes:
        name: of the data set and split, for messages.
    """

    name: str

    def shapes(self, position: int) -> Shapes:
        """Of the arrays that `read` gives, known without decoding."""

    def identity(self) -> str:
        """Changes whenever what `read` gives may have changed."""


class Layout:
    """Where the arrays of each sample lie in a flat buffer of bytes.

    Args:
        shapes: of the arrays of every sample, in the order of positions.
    """

    def __init__(self, shapes: Iterable[Shapes]) -> None:
        self.shapes = [tuple(map(tuple, sample)) for sample in shapes]
        sizes = [sum(map(prod, sample)) for sample in self.shapes]
        self.ends = list(accumulate(sizes))
        self.starts = [end - size for end, size in zip(self.ends, sizes, strict=True)]

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def bytes(self) -> int:
        """Of all samples together."""
        return self.ends[-1] if self.ends else 0

    def views(self, buffer: np.ndarray, position: int) -> tuple[np.ndarray, ...]:
        """The arrays of one sample as parts of ``buffer``, which is (bytes,) uint8."""
        arrays, start = [], self.starts[position]
        for shape in self.shapes[position]:
            arrays.append(buffer[start : (start := start + prod(shape))].reshape(shape))
        return tuple(arrays)


def copy_into(views: Arrays, arrays: Arrays, what: str) -> None:
    """Fill one sample's place.

    Raises:
        RuntimeError: if the arrays are not of the shapes that were announced.
    """
    if [view.shape for view in views] != [array.shape for array in arrays]:
        raise RuntimeError(
            f"{what} decodes to {[array.shape for array in arrays]} where its headers announced "
            f"{[view.shape for view in views]}: was the file changed while it was read?"
        )
    for view, array in zip(views, arrays, strict=True):
        view[...] = array


# Decoded samples in memory that a loader's workers share.


class MemoryCache:
    """Keeps each sample when it is first read, by whichever process reads it, for all of them.

    The memory is anonymous and shared: forked workers inherit it, spawned ones get its handle, and it goes when the last
    process that holds it ends. Unlike /dev/shm it is not limited to the 64 MB that containers usually have there.

    Args:
        source: where the samples come from.
        layout: of the source.
    """

    def __init__(self, source: DecodedSamples, layout: Layout) -> None:
        self.source, self.layout = source, layout
        self._map(_anonymous_file(layout.bytes + len(layout)))

    def _map(self, handle: int) -> None:
        self._handle = handle
        buffer = np.frombuffer(mmap.mmap(handle, self.layout.bytes + len(self.layout)), dtype=np.uint8)
        # A byte each says that a sample is whole. It is set last, and an epoch hands every position to one process alone.
        self._samples, self._whole = np.split(buffer, [self.layout.bytes])

    def __len__(self) -> int:
        return len(self.source)

    def read(self, position: int) -> Arrays:
        """As ``source.read``, read-only."""
        views = self.layout.views(self._samples, position)
        if not self._whole[position]:
            copy_into(views, self.source.read(position), f"sample {position} of {self.source.name}")
            self._whole[position] = 1
        for view in views:
            view.flags.writeable = False
        return views

    @property
    def filled(self) -> int:
        """How many samples are there so far."""
        return int(self._whole.sum())

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "layout": self.layout, "handle": reduction.DupFd(self._handle)}  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.source, self.layout = state["source"], state["layout"]
        self._map(state["handle"].detach())

    def __del__(self) -> None:
        if (handle := self.__dict__.pop("_handle", None)) is not None:
            os.close(handle)  # the mapping stays as long as an array refers to it


def _anonymous_file(size: int) -> int:
    """A handle of ``size`` zero bytes that no folder lists; none takes memory before it is written."""
    if sys.platform == "linux":
        handle = os.memfd_create("decoded-samples")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.truncate(handle, size)
    return handle


# Decoded samples in a file that every worker, process and later run maps into its memory.

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


# Where decoded samples are kept: as the config says, or by how much there is to keep.

_BLOCK = 256  # samples whose headers are read at a time


@dataclass(frozen=True)
class CachePolicy:
    """What `runtime.cache` and its neighbours say.

    Attributes:
        kind: ``none``, ``memory``, ``disk``, or ``auto``: memory if it fits in ``share``, else none.
        share: of the memory that this process may use, for all splits and processes of a run together; a greater demand for
            ``memory`` than all of it is refused.
        folder: of files on disk.
    """

    kind: Literal["auto", "none", "memory", "disk"] = "none"
    share: float = 0.1
    folder: Path = Path("outputs/cache")


NO_CACHE = CachePolicy()


class Kept(NamedTuple):
    """Samples to read instead of the source, the bytes that they take at most, and where: memory, disk or none."""

    samples: Samples
    bytes: int
    place: str


def keep(source: DecodedSamples, policy: CachePolicy, processes: int = 1, taken: int = 0, workers: int = 0) -> Kept:
    """Put a cache before a source.

    Its size is known from the headers of the images before anything is decoded; reading headers ends where they exceed
    what there is room for.

    Args:
        source: where the samples come from.
        policy: what the user wants.
        processes: of this run on this machine, each with a memory of its own.
        taken: bytes that other splits already take in each of them.
        workers: processes that decode for a file on disk.

    Raises:
        ConfigError: if ``memory`` was asked for and there is less.
        DataError: see `open_disk_cache`.
    """
    if policy.kind == "none":
        return Kept(source, 0, "none")
    if policy.kind == "disk":
        layout = Layout(_shapes(source))
        return Kept(open_disk_cache(source, layout, policy.folder, workers), layout.bytes, "disk")
    limit = memory_limit()
    share = limit if policy.kind == "memory" else policy.share * limit
    shapes = _that_fit(source, share / processes - taken)
    if shapes is not None:
        layout = Layout(shapes)
        return Kept(MemoryCache(source, layout), layout.bytes, "memory")
    if policy.kind == "auto":
        return Kept(source, 0, "none")
    raise ConfigError(
        f"runtime.cache=memory: the decoded images of {source.name} do not fit in the {limit / 2**30:.1f} GiB of memory that "
        f"{processes} process(es) may use here. Choose runtime.cache=disk or none."
    )


def _that_fit(source: DecodedSamples, room: float) -> list[Shapes] | None:
    """The shapes of all samples; None as soon as they take more than ``room`` bytes."""
    shapes, taken = list[Shapes](), 0
    for shape in _shapes(source):
        shapes.append(shape)
        taken += sum(map(prod, shape))
        if taken > room:
            return None
    return shapes


def _shapes(source: DecodedSamples) -> Iterator[Shapes]:
    positions = iter(range(len(source)))
    with ThreadPoolExecutor(8) as pool:  # waiting for the disk, not computing
        while block := list(islice(positions, _BLOCK)):
            yield from pool.map(source.shapes, block)
