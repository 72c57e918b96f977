"""Labelled images as data set and LightningDataModule; the only file that knows timm's augmentation."""

import hashlib
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup, create_transform
from torch import Tensor

from exfuse.data.labelled import LabelledSplit
from exfuse.data.loading import DecodedDataset, LoadedData, Loading
from exfuse.data.pixels import image_size
from exfuse.data.samples import Shapes
from exfuse.errors import ConfigError
from exfuse.randomness import all_seeded, derive_seed


class ClassificationTrainTransform:
    """timm's training transform: random resized crop, flip, colour or AutoAugment, random erasing.

    Args:
        size: side of the square that the network sees, in pixels.
        scale: least and greatest share of the image's area that a crop keeps.
        flip: probability of a horizontal flip.
        colour: strength of brightness, contrast and saturation jitter; not used with ``auto_augment``.
        auto_augment: timm's name of a policy, e.g. ``rand-m9-mstd0.5`` or ``original``; None for none.
        erase: probability that a rectangle is erased.
        mean, std: normalisation, per RGB channel in [0, 1].

    Shapes:
        (H, W, 3) uint8 RGB -> (3, size, size) float32.

    Raises:
        ConfigError: if timm knows no such policy.
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
        try:
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
        except (AssertionError, ValueError) as error:
            raise ConfigError(
                f"pretraining.recipe.augmentation.auto_augment={auto_augment}: timm knows no such policy ({error}). Name one "
                "such as rand-m9-mstd0.5, or null."
            ) from error

    def __call__(self, image: np.ndarray, seed: int) -> Tensor:
        with all_seeded(seed):  # timm draws from the global ones, three kinds of them
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
        with all_seeded(seed):
            return self.mixing(image.clone(), label)


# Labelled images as data set and LightningDataModule.


class LabelledBatch(TypedDict):
    """Images (B, 3, h, w) float32 and class ids (B,) int64."""

    image: Tensor
    label: Tensor


class LabelledPixels:
    """The images of a split, or what their boxes cut out of them, (h, w, 3); see `exfuse.data.cache`."""

    def __init__(self, split: LabelledSplit) -> None:
        self.split, self.name = split, split.name

    def __len__(self) -> int:
        return len(self.split)

    def read(self, position: int) -> tuple[np.ndarray]:
        return (self.split.items[position].read(),)

    def shapes(self, position: int) -> Shapes:
        item = self.split.items[position]
        if item.box is None:
            width, height = image_size(item.image, item.upright)
        else:
            left, top, right, bottom = item.box
            width, height = right - left, bottom - top
        return ((height, width, 3),)

    def identity(self) -> str:
        known = hashlib.sha256()
        if self.split.identify is not None:  # by which the data are known by name, whatever the files hold
            for item in self.split.items:
                facts = item.image.stat()
                known.update(f"{item.id} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        return f"{self.split.manifest()} {[item.box for item in self.split.items]} {known.hexdigest()}"


class ClassificationDataset(DecodedDataset):
    """A split with its transform; indexed by (epoch, position) in training, by position in evaluation."""

    def __init__(
        self,
        split: LabelledSplit,
        transform: ClassificationTrainTransform | ClassificationEvalTransform,
        seed: int = 0,
    ) -> None:
        super().__init__(LabelledPixels(split))
        self.items, self.transform, self.seed = split.items, transform, seed

    def __getitem__(self, index: int | tuple[int, int]) -> LabelledBatch:
        epoch, position = index if isinstance(index, tuple) else (0, index)
        item = self.items[position]
        (image,) = self.samples.read(position)
        if isinstance(self.transform, ClassificationTrainTransform):
            pixels = self.transform(image, derive_seed(self.seed, "augment", epoch, item.id))
        else:
            pixels = self.transform(image)
        return {"image": pixels, "label": torch.tensor(item.label)}


class ClassificationData(LoadedData):
    """Training and validation loaders over two labelled splits.

    Args:
        train, val: checked splits of one data set.
        train_transform, eval_transform: what the network sees of them.
        loading: how they become batches.
    """

    batch_key = "pretraining.recipe.batch_size"

    def __init__(
        self,
        train: LabelledSplit,
        val: LabelledSplit,
        train_transform: ClassificationTrainTransform,
        eval_transform: ClassificationEvalTransform,
        loading: Loading,
    ) -> None:
        train_set = ClassificationDataset(train, train_transform, loading.seed)
        val_set = ClassificationDataset(val, eval_transform)
        super().__init__(train_set, val_set, train.name, loading, val_batch=max(1, loading.batch_size // 2))
        self.classes = train.classes
