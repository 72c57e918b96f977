"""Intersection over union from confusion counts. numpy only: tables need no torch.

Of a class that the truth does not hold two definitions are in use. Here it is left out of the mean: its false positives already
count as misses of the classes that were there. VOC's devkit takes hit / (true + predicted - hit) of every class, which is 0
where such a class is predicted: ``devkit=True``. On VOC's val, which holds every class, both are the benchmark's number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Areas(NamedTuple):
    """All that IoU needs to know of each class, in pixels: (..., C) int64 each; areas add up over images and regions.

    Attributes:
        hit: true and predicted.
        true: in the truth.
        predicted: in the prediction, where the truth is not void.
    """

    hit: NDArray[np.int64]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64]) -> "Areas":
        """From confusion counts (..., C, C), row = true class."""
        return cls(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2))

    @property
    def shared(self) -> NDArray[np.int64]:
        """What is of the images alone, and so the same for all runs: see `score`."""
        return self.true

    @property
    def own(self) -> NDArray[np.int64]:
        """What each run adds to it: (..., 2 C)."""
        return np.concatenate([self.hit, self.predicted], axis=-1)

    @staticmethod
    def score(shared: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
        """`mean_iou` of sums of `shared` (..., C) and `own` (..., 2 C); not a number where no pixel was counted."""
        hit, predicted = np.split(own, 2, axis=-1)
        present = shared > 0
        ious = np.divide(hit, shared + predicted - hit, out=np.zeros_like(hit), where=present)
        found, classes = np.asarray(ious.sum(-1)), present.sum(-1)
        return np.divide(found, classes, out=np.full_like(found, np.nan), where=classes > 0)

    @staticmethod
    def parts(shared: NDArray[np.float64], own: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels that a run hits, and all that it could hit: (...) each, whose quotient is the pixel accuracy."""
        return own[..., : shared.shape[-1]].sum(-1), shared.sum(-1)

    def at(self, places: Sequence[int]) -> "Areas":
        """Those of some images, in this order."""
        return Areas(*(area[places] for area in self))

    @property
    def whole(self) -> float:
        """`score` of all images together."""
        total = self.total()
        return float(self.score(total.true.astype(np.float64), total.own.astype(np.float64)))

    def total(self) -> "Areas":
        """Summed over the first dimension, such as the images."""
        return Areas(*(area.sum(0) for area in self))

    def iou(self) -> NDArray[np.float64]:
        """(..., C) in [0, 1]; not a number for a class that never occurs in the truth."""
        hit = self.hit.astype(np.float64)
        union = self.true + self.predicted - hit
        return np.divide(hit, union, out=np.full_like(hit, np.nan), where=self.true > 0)

    def mean_iou(self, devkit: bool = False) -> NDArray[np.float64]:
        """Mean over the classes that occur in the truth, or with ``devkit`` in truth or prediction: (...).

        Raises:
            ValueError: if no pixel was counted at all.
        """
        if not np.all(self.true.sum(-1) > 0):
            raise ValueError("mean IoU of no labelled pixel at all")
        scores = self.iou()
        return np.nanmean(np.where((self.true == 0) & (self.predicted > 0), 0.0, scores) if devkit else scores, axis=-1)


def iou_per_class(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class over everything that was counted together.

    Args:
        counts: (..., C, C) int64, row = true class, column = predicted class, void left out.

    Returns:
        (..., C) in [0, 1]; not a number for a class that never occurs in the truth. Its false positives are not lost:
        each counts as a miss of the class that was there.
    """
    return Areas.of_counts(counts).iou()


def mean_iou(counts: NDArray[np.int64], devkit: bool = False) -> NDArray[np.float64]:
    """Mean of `iou_per_class` over the classes that occur in the truth: (..., C, C) -> (...).

    With ``devkit`` a class that occurs in the prediction alone counts as 0, as in VOC's devkit.

    Raises:
        ValueError: if no pixel was counted at all.
    """
    return Areas.of_counts(counts).mean_iou(devkit)


def pixel_accuracy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of labelled pixels whose class is right: (..., C, C) -> (...)."""
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1))
