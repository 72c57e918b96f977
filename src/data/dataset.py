"""From files to tensors: what a loader's workers run."""

from collections.abc import Iterator
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, Sampler

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


class TrainSampler(DistributedSampler):
    """Shuffled order as a function of (seed, epoch) alone; yields (epoch, position).

    Several processes take turns on the very order that one process would see, the last few that do not go round left out:
    they belong to the smaller batch that one process drops too. The epoch travels with the position, so that a sample's
    random numbers do not depend on which worker reads it or whether the run was resumed.
    """

    def __init__(self, dataset: SegmentationDataset, seed: int, processes: int, rank: int) -> None:
        super().__init__(
            dataset, num_replicas=processes, rank=rank, shuffle=True, seed=derive_seed(seed, "order"), drop_last=True
        )

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        return ((self.epoch, position) for position in super().__iter__())


class EvalSampler(Sampler):
    """Every position exactly once over all processes: unlike a distributed sampler, none is repeated to fill up."""

    def __init__(self, dataset: SegmentationDataset, processes: int, rank: int) -> None:
        self.positions = range(rank, len(dataset), processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)
