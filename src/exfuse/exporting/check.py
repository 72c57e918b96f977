"""Whether an exported file says what the model says, on real images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from exfuse.errors import UserError
from exfuse.models.segmenter import Segmenter

TOLERANCE = 1e-4  # of the largest score
_EQUAL_PIXELS = 0.999  # chosen: rounding may decide a tie otherwise


@dataclass(frozen=True)
class Agreement:
    """Over all images: the largest difference relative to the largest score, and the share of pixels of the same class."""

    difference: float
    equal: float


@torch.inference_mode()
def agreement(
    model: Segmenter, exported: Callable[[NDArray[np.float32]], NDArray[np.float32]], images: Sequence[NDArray[np.float32]]
) -> Agreement:
    """Compare a file with the model that it was made from.

    Args:
        model: unfused, in evaluation mode on the CPU.
        exported: from (B, 3, H, W) to (B, C, H, W).
        images: (3, H, W) each, normalised.

    Raises:
        UserError: if they differ by more than rounding.
    """
    difference, equal, pixels = 0.0, 0, 0
    for image in images:
        expected, got = model(torch.from_numpy(image)[None]).scores.numpy(), exported(image[None])
        if got.shape != expected.shape:
            raise UserError(f"The exported file gives scores of shape {got.shape} where the model gives {expected.shape}.")
        difference = max(difference, float(np.abs(got - expected).max() / np.abs(expected).max()))
        same = got.argmax(1) == expected.argmax(1)
        equal, pixels = equal + int(same.sum()), pixels + same.size
    if not (difference <= TOLERANCE and equal / pixels >= _EQUAL_PIXELS):
        raise UserError(
            f"The exported file does not say what the model says: scores differ by {difference:.1e} of the largest "
            f"(allowed {TOLERANCE:.0e}), {equal / pixels:.3%} of the pixels have the same class. No file is kept."
        )
    return Agreement(difference, equal / pixels)
