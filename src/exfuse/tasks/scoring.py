"""Score a model on a split; its scores become a decision per pixel at one scale, over scales and flips, or window by window.

Every protocol looks at one image at a time and at one view of it per forward pass. Convolutions of a batch are not bit for bit
those of its images (libraries choose other kernels for other shapes), so a recorded score that came out of batches would
depend on how they were put together.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from exfuse.data.segmentation import Batch, SegmentationDataset
from exfuse.limits import BelowOne, NonNegativeFloat, Positive, Scales, Workers
from exfuse.metrics.boundary import Edges, count_image, find_edges
from exfuse.metrics.boundary_areas import BoundaryAreas
from exfuse.models.segmenter import Segmenter
from exfuse.models.upsample import at_size
from exfuse.process import loader_workers
from exfuse.tasks.prediction import EvaluationProtocol, Size, check_view, predict
from exfuse.tasks.segmentation import decided, predict_ids
from exfuse.terminal import track


class AveragedProbabilities:
    """The class with the highest mean probability over scaled and mirrored views of the image.

    Args:
        scales: factors of the network's input, each side rounded to whole pixels.
        flip: look at the mirror image of every scale too.
        windows: how one view is looked at: as a whole, or window by window.
        device_mib: probabilities of one image (C, H, W) that take more than this are added up in the computer's memory instead
            of the device's, which then holds no more than one forward pass needs. Whatever the number of views and windows,
            there are at most three maps of this size: the sum, a view's, and the same at the image's size.
    """

    def __init__(
        self,
        scales: Scales,
        flip: bool,
        windows: "Whole | SlidingWindows",
        device_mib: NonNegativeFloat,
    ) -> None:
        self.scales, self.flip, self.windows, self.device_mib = tuple(scales), flip, windows, device_mib

    def __call__(self, model: Segmenter, image: Tensor, size: Size) -> Tensor:
        return decided(self.probabilities(model, image, size))

    def probabilities(self, model: Segmenter, image: Tensor, size: Size) -> Tensor:
        """Mean over the views: (1, C, H, W) float32 on the device, or on the CPU where that is too much for it."""
        total: Tensor | None = None
        views = 0
        for view, mirrored in self._views(image):
            mean = self.windows(model, view, self.device_mib)
            if mirrored:
                mean = mean.flip(-1)
            home = _home(image.device, mean.shape[1], size, self.device_mib)
            mean = at_size(mean.to(home), size)
            total = mean if total is None else total.add_(mean)
            views += 1
        assert total is not None  # there is at least one scale
        return total.div_(views)

    def _views(self, image: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """Scaled images, as training scales them, each followed by its mirror image if wanted."""
        for scale in self.scales:
            height, width = (max(1, round(scale * side)) for side in image.shape[-2:])
            if scale > 1:
                check_view(height, width)
            view = image if scale == 1 else F.interpolate(image, (height, width), mode="bilinear")
            yield view, False
            if self.flip:
                yield view.flip(-1), True


class Whole:
    """The view as it is, in one forward pass."""

    def __call__(self, model: Segmenter, view: Tensor, _: float) -> Tensor:
        return _probabilities(model, view)


class SlidingWindows:
    """Overlapping windows, their probabilities averaged by how many windows saw a pixel.

    Along each side there are as few windows as the overlap allows, spread evenly, so that they reach from edge to edge and
    overlap by at least ``overlap``. A side that is not longer than the window is seen whole: nothing is padded.

    Args:
        window: side of a window in px of the network's input.
        overlap: share of a window that the next one sees again, in [0, 1).
    """

    def __init__(self, window: Positive, overlap: BelowOne) -> None:
        self.window, self.overlap = window, overlap

    def __call__(self, model: Segmenter, view: Tensor, device_mib: float) -> Tensor:
        height, width = view.shape[-2:]
        rows, columns = self.positions(height), self.positions(width)
        if len(rows) == len(columns) == 1:
            return _probabilities(model, view)
        total: Tensor | None = None
        counts = torch.zeros(height, width)
        for row in rows:
            for column in columns:
                place = (..., slice(row, row + self.window), slice(column, column + self.window))
                seen = _probabilities(model, view[place])
                if total is None:
                    home = _home(seen.device, seen.shape[1], (height, width), device_mib)
                    total = torch.zeros(1, seen.shape[1], height, width, device=home)
                total[place] += seen.to(total.device)
                counts[place] += 1
        assert total is not None  # there is at least one window
        return total.div_(counts.to(total.device))

    def positions(self, length: int) -> list[int]:
        """Where the windows begin along a side of this length."""
        if length <= self.window:
            return [0]
        stride = max(1, math.floor(self.window * (1 - self.overlap)))
        steps = math.ceil((length - self.window) / stride)
        return [round(step * (length - self.window) / steps) for step in range(steps + 1)]


def _probabilities(model: Segmenter, view: Tensor) -> Tensor:
    """(1, C, h, w) float32 at the view's own size."""
    return at_size(model(view.contiguous()).scores.float(), view.shape[-2:]).softmax(1)


def _home(device: torch.device, classes: int, size: Size, device_mib: float) -> torch.device:
    """Where probabilities (C, H, W) are kept."""
    return device if classes * math.prod(size) * 4 <= device_mib * 2**20 else torch.device("cpu")


# Score a model on a split: one device, one image at a time, every image exactly once.


class ScoredImages(NamedTuple):
    """In the split's order: confusion counts (images, C, C) int64, row = true class, and areas near borders."""

    counts: NDArray[np.int64]
    areas: BoundaryAreas


def score_images(
    model: Segmenter,
    dataset: SegmentationDataset,
    device: torch.device,
    workers: Workers,
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
    pin = device.type == "cuda"
    workers = loader_workers(workers)
    with_edges: Any = _with_edges  # of a sample, as nothing is batched
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, pin_memory=pin, collate_fn=with_edges)
    with _same_kernels_every_time():
        batches = track(loader, description=f"Scoring {dataset.split.name}", total=len(dataset), transient=True)
        asked = ((image, maps.shape[-2:], (maps, width)) for image, maps, width in batches)
        for position, (ids, (maps, width)) in enumerate(predict(model, asked, device, decide)):
            mask, ring, boundary = maps.numpy()
            found = count_image(ids.numpy(), mask, Edges(ring, boundary.view(np.bool_), width), classes)
            counts[position] = found.confusion
            areas.append(found.areas)
    return ScoredImages(counts, BoundaryAreas.of_images(areas))


def _with_edges(sample: Batch) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Image (channels, H, W), maps (3, H, W) uint8 and d in px: the mask and its edges, see `exfuse.metrics.boundary.Edges`.

    The edges take longer than the counting and so are the loader's work. The maps are one tensor: each that a worker hands over
    takes a file of its own.
    """
    mask = sample["mask"].numpy()
    edges = find_edges(mask)
    return sample["image"], torch.from_numpy(np.stack([mask, edges.ring, edges.boundary.view(np.uint8)])), edges.width


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
