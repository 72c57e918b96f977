"""Score a model on a split: one device, one image at a time, every image exactly once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from exfuse.data.dataset import SegmentationDataset
from exfuse.metrics.boundary import Edges, count_areas, find_edges
from exfuse.metrics.boundary_areas import BoundaryAreas
from exfuse.metrics.confusion import confusion_counts
from exfuse.models.segmenter import Segmenter
from exfuse.tasks.protocols import EvaluationProtocol
from exfuse.tasks.segmentation import predict_ids


class ScoredImages(NamedTuple):
    """In the split's order: confusion counts (images, C, C) int64, row = true class, and areas near borders."""

    counts: NDArray[np.int64]
    areas: BoundaryAreas


@torch.inference_mode()
def score(
    model: Segmenter,
    dataset: SegmentationDataset,
    device: torch.device,
    workers: int,
    decide: EvaluationProtocol = predict_ids,
) -> ScoredImages:
    """Score each image at its native size, in float32.

    No image's scores depend on the others, on their order or on the number of workers.

    Args:
        model: moved to ``device`` and left in evaluation mode.
        dataset: with an `exfuse.data.transforms.EvalTransform`.
        device: where to run.
        workers: loader processes; 0 reads in this one.
        decide: the protocol, by default the single scale.
    """
    classes = len(dataset.split.classes)
    counts = np.zeros((len(dataset), classes, classes), dtype=np.int64)
    areas = []
    model.to(device).eval()
    loader = DataLoader(_WithEdges(dataset), batch_size=1, num_workers=workers, pin_memory=device.type == "cuda")
    with _same_kernels_every_time():
        batches = track(loader, description=f"Scoring {dataset.split.name}", total=len(dataset), transient=True)
        for position, (image, mask, edges) in enumerate(batches):
            truth = mask.to(device, non_blocking=True)
            ids = decide(model, image.to(device, non_blocking=True), mask.shape[-2:])
            counts[position] = confusion_counts(ids, truth, classes).cpu().numpy()
            known = Edges(edges.ring[0].numpy(), edges.boundary[0].numpy(), int(edges.width))
            areas.append(count_areas(ids[0].byte().cpu().numpy(), mask[0].numpy(), known, classes))
    return ScoredImages(counts, BoundaryAreas.of_images(areas))


class _WithEdges(Dataset):
    """Image, mask and the mask's edges, which take longer than the counting and so are the loader's work."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor, Edges]:
        sample = self.dataset[position]
        return sample["image"], sample["mask"], find_edges(sample["mask"].numpy())


@contextmanager
def _same_kernels_every_time() -> Iterator[None]:
    """Let cuDNN neither time its kernels and choose, nor take one whose sums come in any order."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
