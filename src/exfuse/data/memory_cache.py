"""Decoded samples in memory that a loader's workers share."""

import mmap
import os
import sys
import tempfile
from multiprocessing import reduction
from typing import Any

import numpy as np

from exfuse.data.samples import Arrays, DecodedSamples, Layout, copy_into


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
