"""The LightningDataModule of segmentation."""

from exfuse.data.cache.policy import NO_CACHE, CachePolicy
from exfuse.data.dataset import SegmentationDataset
from exfuse.data.loading import LoadedData
from exfuse.data.split import Split
from exfuse.data.transforms import EvalTransform, TrainTransform


class SegmentationData(LoadedData):
    """Training and validation loaders over two splits.

    Args:
        train, val: checked splits of one data set.
        train_transform, eval_transform: what the network sees of them.
        batch_size, accumulate, workers, seed, cache, prefetch: see `LoadedData`; the seed is the augmentation's too.
    """

    train_set: SegmentationDataset
    val_set: SegmentationDataset

    def __init__(
        self,
        train: Split,
        val: Split,
        train_transform: TrainTransform,
        eval_transform: EvalTransform,
        batch_size: int,
        accumulate: int,
        workers: int,
        seed: int,
        cache: CachePolicy = NO_CACHE,
        prefetch: int = 2,
    ) -> None:
        super().__init__(
            SegmentationDataset(train, train_transform, seed),
            SegmentationDataset(val, eval_transform),
            train.name,
            batch_size,
            accumulate,
            workers,
            seed,
            # Images of different sizes do not stack, and a score must not depend on how they were batched: one at a time.
            val_batch=1,
            cache=cache,
            prefetch=prefetch,
        )
        self.classes = train.classes
