"""What scoring costs beside the forward pass: counting, areas near borders, and images of ever new sizes."""

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from exfuse.benchmarks.report import Measurement, alternate
from exfuse.composition.segmentation import build_model
from exfuse.config.overrides import describe_run
from exfuse.metrics.boundary import count_areas, find_edges
from exfuse.models.segmenter import Segmenter
from exfuse.runs.backbones import resolve_normalisation
from exfuse.tasks.confusion import confusion_counts, plain_confusion_counts
from exfuse.tasks.scoring import score
from exfuse.tasks.segmentation import predict_ids

_TARGET = 0.02  # of the forward pass
_SCORING = 0.85  # of the forward pass's images/s
_IMAGES = 2  # scored at a time
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
    forward, counts, plain, areas, preparing = alternate(
        [
            lambda: model(image),
            lambda: confusion_counts(ids, on_device, _CLASSES),
            lambda: plain_confusion_counts(ids, on_device, _CLASSES),
            lambda: count_areas(predicted, truth, edges, _CLASSES),
            lambda: find_edges(truth),
        ],
        repeats=9,
        device=device,
    )
    costs = {
        "confusion counts": (counts, f"<= {_TARGET}", f"; the plain form takes {plain:.2f} ms"),
        "areas near borders": (areas, "", f"; the final score alone, on the CPU; its loaders take {preparing:.1f} ms a mask"),
    }
    return [
        Measurement(
            item=f"{what} against the forward pass, {name}",
            ours=taken,
            reference=forward,
            unit="ms",
            ratio=taken / forward,
            target=target,
            met=not target or taken / forward <= _TARGET,
            details=where + note,
        )
        for what, (taken, target, note) in costs.items()
    ]


@torch.inference_mode()
def _scoring(model: Segmenter, name: str, where: str, device: str) -> list[Measurement]:
    """All of `score` but reading images, in this process, and a forward pass at a size that no pass had before."""
    truth, image = torch.from_numpy(_mask()), torch.randn(3, *_SIZE, generator=torch.Generator().manual_seed(0))
    there, heights = image[None].to(device), count(_SIZE[0] + 1)
    split = SimpleNamespace(name="noise", classes=range(_CLASSES))
    dataset: Any = _Images([{"image": image, "mask": truth}] * _IMAGES, split)

    def scored_in_silence() -> None:
        with redirect_stdout(StringIO()):  # its progress
            score(model, dataset, torch.device(device), workers=0)

    forward, scoring, new = alternate(
        [
            lambda: [model(there) for _ in range(_IMAGES)],
            scored_in_silence,
            lambda: [model(torch.zeros(1, 3, next(heights), _SIZE[1], device=device)) for _ in range(_IMAGES)],
        ],
        repeats=5,
        warm_up=1,
        device=device,
    )
    bare, scored = (1e3 * _IMAGES / taken for taken in (forward, scoring))
    shared: dict[str, Any] = {"reference": bare, "unit": "images/s"}
    details = f"{where}; counts and edge areas, edges found in the same process, no files read"
    return [
        Measurement(
            item=f"scoring at native size against the bare forward pass, {name}",
            ours=scored,
            ratio=scored / bare,
            target=f">= {_SCORING}",
            met=scored / bare >= _SCORING,
            details=details,
            **shared,
        ),
        Measurement(
            item=f"forward passes at ever new sizes against one size, {name}",
            ours=1e3 * _IMAGES / new,
            ratio=forward / new,
            target="",
            met=True,
            details=f"{where}, and a row more each time: what libraries prepare for a size",
            **shared,
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
