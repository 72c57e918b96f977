"""Where decoded samples are kept: as the config says, or by how much there is to keep."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple

from exfuse.data.disk_cache import open_disk_cache
from exfuse.data.memory_cache import MemoryCache
from exfuse.data.samples import DecodedSamples, Layout, Samples, Shapes
from exfuse.errors import ConfigError
from exfuse.memory import memory_limit

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
