"""Segmentation's data set, from files to tensors in a loader's workers, and its LightningDataModule."""

from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from exfuse.data.device_augmentation import Cut, DeviceTransform, collate
from exfuse.data.loading import DecodedDataset, LoadedData, Loading
from exfuse.data.samples import Shapes
from exfuse.data.split import Split
from exfuse.data.transforms import EvalTransform, TrainTransform
from exfuse.randomness import derive_seed


class Batch(TypedDict):
    """Images (B, C, h, w) float32, masks (B, H, W) uint8 with 255 for void, and positions (B,) int64 in the split."""

    image: Tensor
    mask: Tensor
    position: Tensor


class PreparedSplit:
    """The samples of a split after a transform's fixed first step: image (h, w, 3) and mask (h, w), see `exfuse.data.cache`."""

    def __init__(self, split: Split, transform: TrainTransform | EvalTransform) -> None:
        self.split, self.transform, self.name = split, transform, split.name

    def __len__(self) -> int:
        return len(self.split)

    def read(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        return self.transform.prepare(self.split.image(position), self.split.mask(position))

    def shapes(self, position: int) -> Shapes:
        width, height = self.split.size(position)
        image, mask = self.transform.prepared_sizes(height, width)
        return (*image, self.split.bands.channels), mask

    def identity(self) -> str:
        kind = TrainTransform if isinstance(self.transform, TrainTransform) else EvalTransform  # whoever finishes it
        return f"{self.split.manifest()} {kind.__name__} {self.transform.scaling.long_side}"


class SegmentationDataset(DecodedDataset):
    """A split with its transform; indexed by (epoch, position) in training, by position in evaluation."""

    def __init__(self, split: Split, transform: TrainTransform | EvalTransform, seed: int = 0) -> None:
        super().__init__(PreparedSplit(split, transform))
        self.split, self.transform, self.seed = split, transform, seed

    def __getitem__(self, index: int | tuple[int, int]) -> Batch | Cut:
        epoch, position = index if isinstance(index, tuple) else (0, index)
        image, mask = self.samples.read(position)
        if isinstance(self.transform, TrainTransform):
            seed = derive_seed(self.seed, "augment", epoch, self.split.items[position].id)
            if isinstance(self.transform, DeviceTransform):
                return self.transform.cut(image, mask, seed, position)
            pixels, target = self.transform.augment(image, mask, seed)
        else:
            pixels, target = self.transform.normalise(image), torch.from_numpy(mask.copy())
        return {"image": pixels, "mask": target, "position": torch.tensor(position)}


# The LightningDataModule of segmentation.


class SegmentationData(LoadedData):
    """Training and validation loaders over two splits.

    Args:
        train, val: checked splits of one data set.
        train_transform, eval_transform: what the network sees of them.
        loading: how they become batches.
    """

    train_set: SegmentationDataset
    val_set: SegmentationDataset

    def __init__(
        self,
        train: Split,
        val: Split,
        train_transform: TrainTransform,
        eval_transform: EvalTransform,
        loading: Loading,
    ) -> None:
        train_set, val_set = SegmentationDataset(train, train_transform, loading.seed), SegmentationDataset(val, eval_transform)
        # Images of different sizes do not stack, and a score must not depend on how they were batched: one at a time.
        super().__init__(train_set, val_set, train.name, loading, val_batch=1)
        self.classes = train.classes
        if isinstance(train_transform, DeviceTransform):
            self.collate = collate

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ARG002 - Lightning's
        """Do what loaders left to the device."""
        transform = self.train_set.transform
        return transform.finish(batch) if isinstance(transform, DeviceTransform) and "drawn" in batch else batch
