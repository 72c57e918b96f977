"""Inference: the fused model against the training graph in evaluation mode."""

from collections.abc import Callable

import torch

from exfuse.benchmarks.report import Measurement, alternate
from exfuse.benchmarks.running import VARIANTS, batch, build
from exfuse.fusing.fuse import fuse
from exfuse.models.segmenter import Segmenter

_SIZES = (256, 512)
_REPEATS = 15
_FASTER, _TARGET = 1.3, ">= 1.30"
_EQUAL = 1e-4


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """ResNet50, 21 classes, one image, float32, channels_last on both sides: times, and the largest difference of scores."""
    measurements = []
    for variant in VARIANTS:
        progress(f"{variant}: fusing")
        model = _with_statistics(build(variant, device))
        fused = fuse(model)
        measurements += [
            line for size in _SIZES for line in _compare(f"{variant}, {size}x{size}", model, fused, device, size, progress)
        ]
    return measurements


@torch.inference_mode()
def _compare(
    name: str, model: Segmenter, fused: Segmenter, device: str, size: int, progress: Callable[[str], None]
) -> list[Measurement]:
    progress(name)
    image, _ = batch(device, size, images=1)
    expected, scores = model(image).scores, fused(image).scores
    difference = float((scores - expected).abs().max() / expected.abs().max())
    training_ms, fused_ms = alternate([lambda: model(image), lambda: fused(image)], _REPEATS, device=device)
    ratio = training_ms / fused_ms
    details = "batch 1, float32, channels_last, inference mode"
    return [
        Measurement(
            f"{name}: training graph / fused",
            fused_ms,
            training_ms,
            "ms",
            ratio,
            _TARGET,
            ratio >= _FASTER,
            details,
        ),
        Measurement(
            f"{name}: difference of the fused scores, relative to the largest",
            difference,
            None,
            "",
            difference,
            f"<= {_EQUAL:.0e}",
            difference <= _EQUAL,
            details,
        ),
    ]


@torch.no_grad()
def _with_statistics(model: Segmenter) -> Segmenter:
    """In evaluation mode, batch norms with the statistics of a random batch instead of their first ones."""
    model.train()(batch(next(model.parameters()).device.type, 128)[0])
    return model.eval()
