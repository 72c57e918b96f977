"""Labelled images as data set and LightningDataModule."""

from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from exfuse.data.cache.layout import Shapes
from exfuse.data.cache.policy import NO_CACHE, CachePolicy
from exfuse.data.classification_transforms import ClassificationEvalTransform, ClassificationTrainTransform
from exfuse.data.labelled import LabelledSplit
from exfuse.data.loading import DecodedDataset, LoadedData
from exfuse.data.split import image_size
from exfuse.randomness import derive_seed


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
            width, height = image_size(item.image)
        else:
            left, top, right, bottom = item.box
            width, height = right - left, bottom - top
        return ((height, width, 3),)

    def identity(self) -> str:
        return f"{self.split.manifest()} {[(item.box, item.image.stat().st_mtime_ns) for item in self.split.items]}"


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
        batch_size, accumulate, workers, seed, cache, prefetch: see `LoadedData`; the seed is the augmentation's too.
    """

    def __init__(
        self,
        train: LabelledSplit,
        val: LabelledSplit,
        train_transform: ClassificationTrainTransform,
        eval_transform: ClassificationEvalTransform,
        batch_size: int,
        accumulate: int,
        workers: int,
        seed: int,
        cache: CachePolicy = NO_CACHE,
        prefetch: int = 2,
    ) -> None:
        super().__init__(
            ClassificationDataset(train, train_transform, seed),
            ClassificationDataset(val, eval_transform),
            train.name,
            batch_size,
            accumulate,
            workers,
            seed,
            val_batch=max(1, batch_size // 2),
            cache=cache,
            prefetch=prefetch,
        )
        self.classes = train.classes
