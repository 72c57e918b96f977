"""What happens to an image on its way to the network; the only file that knows albumentations."""

import os
import random
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for a newer release on import

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor

from exfuse.errors import DataError
from exfuse.palette import VOID

# The loader's own workers are the parallelism; OpenCV's threads would fight them for cores.
cv2.setNumThreads(0)

COLOURED = 0.8  # how often an image's colours change at all; chosen
# The plain INTER_NEAREST rounds down: it would shift masks against their images by half a pixel.
_INTERPOLATION = {"interpolation": cv2.INTER_LINEAR, "mask_interpolation": cv2.INTER_NEAREST_EXACT}


class TrainTransform:
    """Random colour, scale, crop and flip; padding takes the mean colour and is void in the mask.

    Args:
        crop: side of the square that the network sees, in pixels.
        long_side: scale every image to this longer side first; None keeps its own size.
        scale: least and greatest random scale factor.
        flip: probability of a horizontal flip.
        colour: strength of brightness, contrast and, of RGB, saturation jitter; hue moves by a quarter of it.
        mean, std: normalisation that belongs to the encoder's weights, per channel in [0, 1].

    Shapes:
        (H, W, C) uint8, RGB or other channels, and (H, W) uint8 ids -> (C, crop, crop) float32 and (crop, crop) uint8.
    """

    def __init__(
        self,
        crop: int,
        long_side: int | None,
        scale: Sequence[float],
        flip: float,
        colour: float,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        low, high = scale
        self.scaling = _Scaling(long_side)
        steps: list[A.BasicTransform] = []
        if colour > 0 and len(mean) == 3:  # before the padding, which is to keep the mean colour
            steps.append(A.ColorJitter(colour, colour, colour, hue=colour / 4, p=COLOURED))
        elif colour > 0:  # other channels have neither saturation nor hue
            steps.append(A.RandomBrightnessContrast(colour, colour, p=COLOURED))
        steps += [
            _Scale(scale_limit=(low - 1, high - 1), p=1, **_INTERPOLATION),
            _Padding(crop, crop, position="random", fill=[255 * value for value in mean], fill_mask=VOID),
            A.RandomCrop(crop, crop),
            A.HorizontalFlip(p=flip),
        ]
        self.compose = A.Compose([*steps, _normalise(mean, std)], strict=True)

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
        return self.augment(*self.prepare(image, mask), seed)

    def prepare(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first step, the same in every epoch: what a cache of images may hold."""
        return self.scaling.both(image, mask)

    def prepared_sizes(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Sizes (h, w) of the image and mask that `prepare` makes of an image of this size."""
        size = self.scaling.size(height, width)
        return size, size

    def augment(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
        """The random steps, of what `prepare` made; arrays are only read."""
        # Seeded anew for every sample: forked loader workers would otherwise replay one another's numbers. The steps draw from
        # one generator in turn: `set_random_seed` would give each a copy, and whoever is scaled down would always be flipped.
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = self.compose(image=image, mask=mask)
        return _to_tensor(result["image"]), torch.from_numpy(np.array(result["mask"], order="C"))


class EvalTransform:
    """The whole image at its own scale, or scaled to a longer side; never its mask, so scores are at native size.

    Shapes:
        (H, W, C) uint8, RGB or other channels -> (C, h, w) float32.

    Raises:
        DataError: if an image has other channels than ``mean``.
    """

    def __init__(self, long_side: int | None, mean: Sequence[float], std: Sequence[float]) -> None:
        self.scaling, self.channels = _Scaling(long_side), len(mean)
        self.compose = A.Compose([_normalise(mean, std)], strict=True)

    def __call__(self, image: np.ndarray) -> Tensor:
        return self.normalise(self.scaling.image(image))

    def prepare(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a cache of images may hold: the scaled image and the mask as it is."""
        return self.scaling.image(image), mask

    def prepared_sizes(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Sizes (h, w) of the image and mask that `prepare` makes of an image of this size."""
        return self.scaling.size(height, width), (height, width)

    def normalise(self, image: np.ndarray) -> Tensor:
        """The last step, of an image that `prepare` made; the array is only read."""
        if image.shape[2] != self.channels:
            raise DataError(f"The model takes images of {self.channels} channels, these have {image.shape[2]} (data.channels).")
        return _to_tensor(self.compose(image=image)["image"])


class _Scale(A.RandomScale):
    """Leaves a pixel of each side, however thin an image is."""

    def apply(self, img: np.ndarray, scale: float, **params: Any) -> np.ndarray:
        return super().apply(img, scale, **params) if _lasts(img, scale) else _thin(img, scale, self.interpolation)

    def apply_to_mask(self, mask: np.ndarray, scale: float, **params: Any) -> np.ndarray:
        if _lasts(mask, scale):
            return super().apply_to_mask(mask, scale, **params)
        return _thin(mask, scale, self.mask_interpolation)


def _lasts(pixels: np.ndarray, scale: float) -> bool:
    return int(min(pixels.shape[:2]) * scale) > 0


def _thin(pixels: np.ndarray, scale: float, interpolation: int) -> np.ndarray:
    height, width = (max(1, int(side * scale)) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=interpolation).reshape(height, width, *pixels.shape[2:])


class _Padding(A.PadIfNeeded):
    """Of any number of channels; OpenCV fills at most four."""

    def apply(self, img: np.ndarray, pad_top: int, pad_bottom: int, pad_left: int, pad_right: int, **params: Any) -> np.ndarray:
        if img.shape[2] <= 4:
            return super().apply(img, pad_top, pad_bottom, pad_left, pad_right, **params)
        height, width, channels = img.shape
        padded = np.empty((height + pad_top + pad_bottom, width + pad_left + pad_right, channels), img.dtype)
        padded[:] = np.rint(self.fill)
        padded[pad_top : pad_top + height, pad_left : pad_left + width] = img
        return padded


class _Scaling:
    """Scales images and masks to a longer side; None leaves them alone."""

    def __init__(self, long_side: int | None) -> None:
        self.long_side = long_side
        self.compose = A.Compose([A.LongestMaxSize(max_size=long_side, **_INTERPOLATION)], strict=True) if long_side else None

    def image(self, image: np.ndarray) -> np.ndarray:
        return image if self.compose is None else self.compose(image=image)["image"]

    def both(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.compose is None:
            return image, mask
        scaled = self.compose(image=image, mask=mask)
        return scaled["image"], scaled["mask"]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """What becomes of an image of this size, rounded as albumentations rounds."""
        if self.long_side is None:
            return height, width
        scale = self.long_side / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))


def _normalise(mean: Sequence[float], std: Sequence[float]) -> A.BasicTransform:
    return A.Normalize(mean=tuple(mean), std=tuple(std))


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
