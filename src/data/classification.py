"""Labelled images as data set and LightningDataModule."""

from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.data.classification_transforms import ClassificationEvalTransform, ClassificationTrainTransform
from src.data.labelled import LabelledSplit
from src.data.loading import LoadedData
from src.randomness import derive_seed


class LabelledBatch(TypedDict):
    """Images (B, 3, h, w) float32 and class ids (B,) int64."""

    image: Tensor
    label: Tensor


class ClassificationDataset(Dataset):
    """A split with its transform; indexed by (epoch, position) in training, by position in evaluation."""

    def __init__(
        self,
        split: LabelledSplit,
        transform: ClassificationTrainTransform | ClassificationEvalTransform,
        seed: int = 0,
    ) -> None:
        self.items, self.transform, self.seed = split.items, transform, seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int | tuple[int, int]) -> LabelledBatch:
        epoch, position = index if isinstance(index, tuple) else (0, index)
        item = self.items[position]
        image = item.read()
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
        batch_size, accumulate, workers, seed: see `LoadedData`; the seed is the augmentation's too.
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
        )
        self.classes = train.classes
