"""Samples that a cache may keep: what they give, and how their arrays lie in one row of bytes."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import prod
from typing import Protocol

import numpy as np

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
