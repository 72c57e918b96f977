"""Scores that are a mean over images, whatever they measure: accuracy, Dice, average precision, an error. numpy only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Means(NamedTuple):
    """What each image scores, of which a run's score is the mean: the same interface as `exfuse.metrics.iou.Areas`.

    Attributes:
        scores: (images,) float64, finite.
    """

    scores: NDArray[np.float64]

    @property
    def shared(self) -> NDArray[np.float64]:
        """One image each: (images, 1)."""
        return np.ones((len(self.scores), 1))

    @property
    def own(self) -> NDArray[np.float64]:
        """The scores: (images, 1)."""
        return self.scores[:, None]

    @property
    def whole(self) -> float:
        """Their mean."""
        return float(self.scores.mean())

    def at(self, places: Sequence[int]) -> "Means":
        """Those of some images, in this order."""
        return Means(self.scores[places])

    @staticmethod
    def score(shared: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of the images whose number is ``shared`` (..., 1) and whose sum is ``own`` (..., 1): (...)."""
        return own[..., 0] / shared[..., 0]

    @staticmethod
    def parts(shared: NDArray[np.float64], own: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sum and number, whose quotient is the score: (...) each."""
        return own[..., 0], shared[..., 0]
