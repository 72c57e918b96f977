"""What happens to an image on its way to the classifier; the only file that knows timm's augmentation."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup, create_transform
from torch import Tensor


class ClassificationTrainTransform:
    """timm's training transform: random resized crop, flip, colour or AutoAugment, random erasing.

    Args:
        size: side of the square that the network sees, in pixels.
        scale: least and greatest share of the image's area that a crop keeps.
        flip: probability of a horizontal flip.
        colour: strength of brightness, contrast and saturation jitter; not used with ``auto_augment``.
        auto_augment: timm's name of a policy, e.g. ``ra`` or ``rand-m9-mstd0.5``; None for none.
        erase: probability that a rectangle is erased.
        mean, std: normalisation, per RGB channel in [0, 1].

    Shapes:
        (H, W, 3) uint8 RGB -> (3, size, size) float32.
    """

    def __init__(
        self,
        size: int,
        scale: Sequence[float],
        flip: float,
        colour: float,
        auto_augment: str | None,
        erase: float,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.transform = create_transform(
            size,
            is_training=True,
            scale=(scale[0], scale[1]),
            hflip=flip,
            color_jitter=colour,
            auto_augment=auto_augment,
            re_prob=erase,
            mean=tuple(mean),
            std=tuple(std),
        )

    def __call__(self, image: np.ndarray, seed: int) -> Tensor:
        with _all_generators_seeded(seed):  # timm draws from the global ones, three kinds of them
            return self.transform(Image.fromarray(image))


class ClassificationEvalTransform:
    """timm's evaluation transform: scale the shorter side to size / crop_share, cut out the centre.

    Shapes:
        (H, W, 3) uint8 RGB -> (3, size, size) float32.
    """

    def __init__(self, size: int, crop_share: float, mean: Sequence[float], std: Sequence[float]) -> None:
        self.transform = create_transform(size, crop_pct=crop_share, mean=tuple(mean), std=tuple(std))

    def __call__(self, image: np.ndarray) -> Tensor:
        return self.transform(Image.fromarray(image))


class BatchMixing:
    """timm's mixup and CutMix of a batch, as a function of a seed.

    Args:
        mixup, cutmix: alpha of either's beta distribution; 0 for none.
        smoothing: label smoothing.
        classes: number of classes C.

    Shapes:
        (B, 3, h, w) float32 and (B,) int64 ids, B even -> mixed images and (B, C) float32 target shares.
    """

    def __init__(self, mixup: float, cutmix: float, smoothing: float, classes: int) -> None:
        self.mixing = Mixup(mixup, cutmix, label_smoothing=smoothing, num_classes=classes)

    def __call__(self, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        with _all_generators_seeded(seed):
            return self.mixing(image.clone(), label)


@contextmanager
def _all_generators_seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generator for a block, and leave them as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - timm draws from the old generator
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
