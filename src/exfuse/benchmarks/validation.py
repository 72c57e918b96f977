"""What scoring costs beside the forward pass: counting, by class and near borders, and images of ever new sizes."""

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from exfuse.benchmarks.report import Measurement, hold, profile_of
from exfuse.composition.segmentation import build_model
from exfuse.config.overrides import describe_run
from exfuse.metrics.boundary import count_image, find_edges
from exfuse.models.segmenter import Segmenter
from exfuse.process import loader_workers
from exfuse.runs.backbones import resolve_normalisation
from exfuse.tasks.confusion import confusion_counts, plain_confusion_counts
from exfuse.tasks.scoring import score_images
from exfuse.tasks.segmentation import predict_ids
from exfuse.timing import median_ms

_TARGET, _SCORING = "<= 0.02", ">= 0.85"  # of the forward pass, and of its images/s
_IMAGES = {"tiny": 200, "ResNet50": 60}  # scored at a time: few against the val of most data sets
_CLASSES = 21
_SIZE = (375, 500)  # the commonest of VOC's
_ENCODERS = {"tiny": "resnet_tiny", "ResNet50": "resnet50"}


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """Counts and areas against the forward pass."""
    found = []
    for name, backbone in _ENCODERS.items():
        run = resolve_normalisation(describe_run([f"backbone={backbone}", "backbone.init=random", "trainer=cpu"]))
        model = build_model(run, _CLASSES).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        where = f"GCN baseline, {name}, {_CLASSES} classes, {_SIZE[0]}x{_SIZE[1]}, float32"
        progress(f"scoring beside the forward pass, {name}")
        found += [*_counting(model, name, where, device), *_scoring(model, name, where, device)]
    return found


@torch.inference_mode()
def _counting(model: Segmenter, name: str, where: str, device: str) -> list[Measurement]:
    image = torch.randn(1, 3, *_SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    truth = _mask()
    on_device = torch.from_numpy(truth).to(device)[None]
    ids = predict_ids(model, image, _SIZE)
    predicted, edges = ids[0].byte().cpu().numpy(), find_edges(truth)
    forward, counts, plain, areas, preparing = median_ms(
        [
            lambda: model(image),
            lambda: confusion_counts(ids, on_device, _CLASSES),
            lambda: plain_confusion_counts(ids, on_device, _CLASSES),
            lambda: count_image(predicted, truth, edges, _CLASSES),
            lambda: find_edges(truth),
        ],
        repeats=9,
        device=device,
    )
    aside = f"; the final score alone, on the CPU; its loaders take {preparing:.1f} ms a mask"
    return [
        hold(
            f"confusion counts / forward pass, {name}",
            counts,
            forward,
            "ms",
            _TARGET,
            f"{where}; the plain form takes {plain:.2f} ms",
            profile=lambda: profile_of(lambda: confusion_counts(ids, on_device, _CLASSES)),
        ),
        hold(f"counts and areas near borders / forward pass, {name}", areas, forward, "ms", details=where + aside),
    ]


@torch.inference_mode()
def _scoring(model: Segmenter, name: str, where: str, device: str) -> list[Measurement]:
    """All of `score` but reading images, with a run's loader workers, and forward passes at sizes that none had before."""
    images, workers = _IMAGES[name], loader_workers("auto")
    few = max(1, images // 5)  # that have a size of their own
    truth, image = torch.from_numpy(_mask()), torch.randn(3, *_SIZE, generator=torch.Generator().manual_seed(0))
    there, heights = image[None].to(device), count(_SIZE[0] + 1)
    split = SimpleNamespace(name="noise", classes=range(_CLASSES))
    dataset: Any = _Images([{"image": image, "mask": truth}] * images, split)

    def scored_in_silence() -> None:
        with redirect_stdout(StringIO()):  # its progress
            score_images(model, dataset, torch.device(device), workers)

    forward, scoring, new = median_ms(
        [
            lambda: [model(there) for _ in range(images)],
            scored_in_silence,
            lambda: [model(torch.zeros(1, 3, next(heights), _SIZE[1], device=device)) for _ in range(few)],
        ],
        repeats=3,
        warm_up=1,
        device=device,
    )
    bare, scored, always_new = (1e3 * number / taken for number, taken in ((images, forward), (images, scoring), (few, new)))
    return [
        hold(
            f"scoring at native size / bare forward pass, {name}",
            scored,
            bare,
            "images/s",
            _SCORING,
            f"{where}; {images} images with the start of {workers} loader workers, counts and edge areas, no files read",
            profile=lambda: profile_of(scored_in_silence),
        ),
        hold(
            f"forward passes at ever new sizes / at one size, {name}",
            always_new,
            bare,
            "images/s",
            details=f"{where}, and a row more each time: what libraries prepare for a size",
        ),
    ]


class _Images(list):
    """Samples of a data set without its files."""

    def __init__(self, samples: list[dict[str, torch.Tensor]], split: SimpleNamespace) -> None:
        super().__init__(samples)
        self.split = split


def _mask() -> np.ndarray:
    """Two objects with void contours, as VOC draws them."""
    mask = np.zeros(_SIZE, np.uint8)
    for top, left, height, width, label in ((60, 80, 180, 150, 8), (150, 260, 160, 200, 12)):
        mask[top - 3 : top + height + 3, left - 3 : left + width + 3] = 255
        mask[top : top + height, left : left + width] = label
    return mask
