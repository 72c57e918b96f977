"""Intersection over union from confusion counts, as the VOC benchmark defines it. numpy only: tables need no torch."""

import numpy as np
from numpy.typing import NDArray


def iou_per_class(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class over everything that was counted together.

    Args:
        counts: (..., C, C) int64, row = true class, column = predicted class, void left out.

    Returns:
        (..., C) in [0, 1]; not a number for a class that never occurs in the truth. Its false positives are not lost:
        each counts as a miss of the class that was there.
    """
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    true, predicted = counts.sum(-1), counts.sum(-2)
    union = true + predicted - hit
    return np.divide(hit, union, out=np.full_like(hit, np.nan), where=true > 0)


def mean_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of `iou_per_class` over the classes that occur in the truth: (..., C, C) -> (...).

    Raises:
        ValueError: if no pixel was counted at all.
    """
    if not np.all(counts.sum((-2, -1)) > 0):
        raise ValueError("mean IoU of no labelled pixel at all")
    return np.nanmean(iou_per_class(counts), axis=-1)


def pixel_accuracy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of labelled pixels whose class is right: (..., C, C) -> (...)."""
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1))
