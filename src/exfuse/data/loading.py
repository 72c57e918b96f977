"""What every LightningDataModule here shares: which samples a process sees in which order, in batches that a resume keeps."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import move_data_to_device
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from exfuse.data.cache import NO_CACHE, CachePolicy, keep
from exfuse.data.samples import DecodedSamples, Samples
from exfuse.errors import ConfigError, plural
from exfuse.limits import Workers
from exfuse.process import loader_workers
from exfuse.randomness import derive_seed


class TrainSampler(DistributedSampler):
    """Shuffled order as a function of (seed, epoch) alone; yields (epoch, position).

    Several processes take turns on the very order that one process would see. Only whole batches are handed out, those of an
    optimiser's step, whatever processes and accumulated parts they are divided into: a smaller last one would be a step of
    its own, with other statistics. The epoch travels with the position, so that a sample's random numbers do not depend on
    which worker reads it or whether the run was resumed.
    """

    def __init__(self, dataset: Sized, seed: int, processes: int, rank: int, batch_size: int) -> None:
        super().__init__(
            dataset,  # type: ignore[arg-type]  # only its length is asked for
            num_replicas=processes,
            rank=rank,
            shuffle=True,
            seed=derive_seed(seed, "order"),
            drop_last=True,
        )
        self.num_samples = len(dataset) // batch_size * batch_size // processes
        self.total_size = self.num_samples * processes

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        return ((self.epoch, position) for position in super().__iter__())


# What every LightningDataModule here shares: how a training set becomes batches that a resume or a worker cannot change.


class DecodedDataset(Dataset):
    """A data set that takes its samples from files, or from a cache before them."""

    def __init__(self, source: DecodedSamples) -> None:
        self.source = source
        self.samples: Samples = source

    def __len__(self) -> int:
        return len(self.source)


class Loading(NamedTuple):
    """How samples become batches.

    Attributes:
        batch_size: samples per optimiser step over all processes and accumulated batches.
        accumulate: batches accumulated per optimiser step.
        workers: loader processes, see `exfuse.process.loader_workers`; any number gives the same samples.
        seed: of the order and of the augmentation.
        cache: what becomes of decoded samples.
        prefetch: batches that each worker makes ahead.
    """

    batch_size: int
    accumulate: int = 1
    workers: Workers = 0
    seed: int = 0
    cache: CachePolicy = NO_CACHE
    prefetch: int = 2


class LoadedData(pl.LightningDataModule):
    """Training and validation loaders over two data sets.

    Args:
        train_set: indexed by (epoch, position).
        val_set: indexed by position.
        name: of the training set, for messages.
        loading: how samples become batches.
        val_batch: samples per validation batch.

    Raises:
        ConfigError: when the loader is made, if the batch cannot be shared out evenly or is larger than the data set.
    """

    batch_key = "recipe.batch_size"

    def __init__(self, train_set: DecodedDataset, val_set: DecodedDataset, name: str, loading: Loading, val_batch: int) -> None:
        super().__init__()
        self.train_set, self.val_set, self.name, self.val_batch = train_set, val_set, name, val_batch
        self.batch_size, self.accumulate, workers, self.seed, self.cache, self.prefetch = loading
        self.workers = loader_workers(workers)
        self.collate: Callable[[Any], Any] = default_collate
        self._cached = False
        self.first_epoch = 0

    def setup(self, stage: str) -> None:  # noqa: ARG002 - the same for every stage
        """Put the cache before both data sets, the training set first; `fit` and `validate` call this.

        Raises:
            ConfigError, DataError: see `exfuse.data.cache.keep`.
        """
        if self._cached:
            return
        self._cached = True
        processes = self.trainer.num_devices if self.trainer else 1
        taken = 0
        for dataset in (self.train_set, self.val_set):
            kept = keep(dataset.source, self.cache, processes, taken, self.workers)
            dataset.samples, taken = kept.samples, taken + kept.bytes

    def train_batch(self, positions: Iterable[int], device: torch.device | str) -> Any:
        """Training samples as a batch on a device, without a loader: to time a step, say."""
        samples = [self.train_set[0, position] for position in positions]
        return self.on_after_batch_transfer(move_data_to_device(self.collate(samples), torch.device(device)), 0)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps: the epoch with which a resumed run begins."""
        return {"next_epoch": self.trainer.current_epoch + 1} if self.trainer else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.first_epoch = state_dict["next_epoch"]

    def train_dataloader(self) -> DataLoader:
        processes, rank = self._place()
        share, rest = divmod(self.batch_size, processes * self.accumulate)
        if rest or share == 0:
            raise ConfigError(
                f"{self.batch_key}={self.batch_size} is the batch of one optimiser step: it must be a multiple of "
                f"{processes} processes x trainer.accumulate_grad_batches={self.accumulate}."
            )
        if len(self.train_set) < self.batch_size:
            raise ConfigError(
                f"{self.batch_key}={self.batch_size} is more than the {plural(len(self.train_set), 'image')} of "
                f"{self.name}: no full batch could be made. Choose {self.batch_key}={len(self.train_set)} or less."
            )
        sampler = TrainSampler(self.train_set, self.seed, processes, rank, self.batch_size)
        # Lightning announces each epoch to the sampler, but makes the first loader iterator, whose workers read ahead at
        # once, before it announces the first epoch: a resumed run would see the samples of epoch 0 again.
        sampler.set_epoch(self.first_epoch)
        return self._loader(self.train_set, sampler=sampler, batch_size=share, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        processes, rank = self._place()
        if len(self.val_set) < processes:
            raise ConfigError(
                f"val has {plural(len(self.val_set), 'image')}, fewer than the {processes} processes that share them. Choose "
                f"trainer.devices={len(self.val_set)} or less."
            )
        # every position once over all processes: unlike a distributed sampler's, none is repeated to fill up
        shared = range(rank, len(self.val_set), processes)
        return self._loader(self.val_set, sampler=shared, batch_size=self.val_batch)

    def _loader(self, dataset: Dataset, **arguments: object) -> DataLoader:
        return DataLoader(
            dataset,
            num_workers=self.workers,
            prefetch_factor=self.prefetch if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            **arguments,  # type: ignore[arg-type]
        )

    def _place(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
