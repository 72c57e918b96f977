"""Which samples a process sees, and in which order."""

from collections.abc import Iterator, Sized

from torch.utils.data import DistributedSampler, Sampler

from exfuse.randomness import derive_seed


class TrainSampler(DistributedSampler):
    """Shuffled order as a function of (seed, epoch) alone; yields (epoch, position).

    Several processes take turns on the very order that one process would see, the last few that do not go round left out:
    they belong to the smaller batch that one process drops too. The epoch travels with the position, so that a sample's
    random numbers do not depend on which worker reads it or whether the run was resumed.
    """

    def __init__(self, dataset: Sized, seed: int, processes: int, rank: int) -> None:
        super().__init__(
            dataset,  # type: ignore[arg-type]  # only its length is asked for
            num_replicas=processes,
            rank=rank,
            shuffle=True,
            seed=derive_seed(seed, "order"),
            drop_last=True,
        )

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        return ((self.epoch, position) for position in super().__iter__())


class EvalSampler(Sampler):
    """Every position exactly once over all processes: unlike a distributed sampler, none is repeated to fill up."""

    def __init__(self, dataset: Sized, processes: int, rank: int) -> None:
        self.positions = range(rank, len(dataset), processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)
