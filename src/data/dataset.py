"""From files to tensors: what a loader's workers run."""

from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.data.split import Split, read_image, read_mask
from src.data.transforms import EvalTransform, TrainTransform
from src.randomness import derive_seed


class Batch(TypedDict):
    """Images (B, 3, h, w) float32, masks (B, H, W) uint8 with 255 for void, and positions (B,) int64 in the split."""

    image: Tensor
    mask: Tensor
    position: Tensor


class SegmentationDataset(Dataset):
    """A split with its transform; indexed by (epoch, position) in training, by position in evaluation."""

    def __init__(self, split: Split, transform: TrainTransform | EvalTransform, seed: int = 0) -> None:
        self.split, self.transform, self.seed = split, transform, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int | tuple[int, int]) -> Batch:
        epoch, position = index if isinstance(index, tuple) else (0, index)
        item = self.split.items[position]
        image = read_image(item.image)
        mask = read_mask(item.mask, len(self.split.classes), self.split.void_ids)
        if isinstance(self.transform, TrainTransform):
            pixels, target = self.transform(image, mask, derive_seed(self.seed, "augment", epoch, item.id))
        else:
            pixels, target = self.transform(image), torch.from_numpy(mask)
        return {"image": pixels, "mask": target, "position": torch.tensor(position)}
