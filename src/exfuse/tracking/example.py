"""One val image with its truth and a prediction, and what can be said of it alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exfuse.metrics.iou import iou_per_class, pixel_accuracy
from exfuse.palette import VOID

WRONG = 254  # an id of error maps that no class has


class Example(NamedTuple):
    """A val image with its truth and a prediction.

    Attributes:
        id: of the image in its split.
        image: (H, W, 3) uint8.
        truth, prediction: (H, W) uint8 ids; 255 in the truth is void.
    """

    id: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]

    def errors(self) -> NDArray[np.uint8]:
        """(H, W): `WRONG` where a labelled pixel is predicted wrongly, void elsewhere."""
        return np.where((self.truth != VOID) & (self.truth != self.prediction), WRONG, VOID).astype(np.uint8)

    def at_most(self, side: int) -> "Example":
        """Itself, or a copy whose longest side is ``side`` pixels; ids are never mixed."""
        factor = side / max(self.truth.shape)
        if factor >= 1:
            return self
        height, width = (max(1, round(length * factor)) for length in self.truth.shape)

        def shrink(pixels: NDArray[np.uint8], resampling: Image.Resampling) -> NDArray[np.uint8]:
            return np.asarray(Image.fromarray(pixels).resize((width, height), resampling))

        return Example(
            self.id,
            shrink(self.image, Image.Resampling.BILINEAR),
            shrink(self.truth, Image.Resampling.NEAREST),
            shrink(self.prediction, Image.Resampling.NEAREST),
        )

    def padded(self, height: int, width: int) -> "Example":
        """At the top left of a grey image of that size whose added pixels are void."""
        below, beside = height - self.truth.shape[0], width - self.truth.shape[1]

        def pad(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return np.pad(ids, ((0, below), (0, beside)), constant_values=VOID)

        image = np.pad(self.image, ((0, below), (0, beside), (0, 0)), constant_values=128)
        return Example(self.id, image, pad(self.truth), pad(self.prediction))

    def scores(self, classes: Sequence[str]) -> dict[str, Any]:
        """``miou`` and ``pixel_accuracy`` in [0, 1] and the ``worst`` class of this image; None where all is void."""
        known = self.truth != VOID
        if not known.any():
            return {"miou": None, "pixel_accuracy": None, "worst": None}
        pairs = self.truth[known].astype(np.int64) * len(classes) + self.prediction[known]
        counts = np.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), len(classes))
        iou = iou_per_class(counts)
        worst = classes[int(np.nanargmin(iou))]
        return {"miou": float(np.nanmean(iou)), "pixel_accuracy": float(pixel_accuracy(counts)), "worst": worst}
