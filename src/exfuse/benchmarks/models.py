"""Training steps of whole models: the baseline against smp's FPN, ExFuse against the baseline and against its plain form."""

import copy
from collections.abc import Callable
from functools import partial

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from exfuse.benchmarks.report import Measurement, alternate
from exfuse.benchmarks.running import CLASSES, FORMATS, VARIANTS, batch, build, training_step
from exfuse.fusing.training import accelerate
from exfuse.models.segmenter import Segmenter
from exfuse.process import keep_freed_memory
from exfuse.techniques.adjacent_prediction import AdjacentPrediction
from exfuse.techniques.embedding_branch import ProductEmbedding

_SIZE, _BACKBONE = 256, "resnet50"
_LARGE, _MANY = 512, 8  # the crop of recipe=voc, and half its batch
_CHANNELS = (256, 512, 1024, 2048)  # of its maps
_REPEATS = 7
_AVERAGED, _WINDOW = (2, 189, 256, 256), 3  # DAP's scores at full resolution
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """ResNet50, 21 classes, batch 2, 256x256, channels_last; the better of float32 and bfloat16 autocast for each side."""
    keep_freed_memory()  # as in training
    return [
        *_against_fpn(device, progress),
        *_wide(device, progress),
        *_embedding(device, progress),
        *_averaging(device, progress),
        *(_layouts(device, progress) if device == "cuda" else []),
    ]


def _against_fpn(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    fpn = smp.FPN(_BACKBONE, encoder_weights=None, classes=CLASSES).to(device).to(memory_format=torch.channels_last).train()
    baseline, last = build("GCN baseline", device, _BACKBONE), build("ExFuse, DAP last", device, _BACKBONE)
    progress("training steps: FPN of segmentation_models_pytorch, the GCN baseline, ExFuse with DAP last")
    times = best_steps([fpn, baseline, last], device)
    (fpn_ms, fpn_in), (baseline_ms, baseline_in), (last_ms, last_in) = times
    progress("operations of ExFuse with DAP last")
    gflops = forward_gflops(last, device)
    ratio, slower = baseline_ms / fpn_ms, last_ms / baseline_ms
    return [
        Measurement(
            "GCN baseline / FPN of segmentation_models_pytorch, training step",
            baseline_ms,
            fpn_ms,
            "ms",
            ratio,
            "<= 1.00",
            ratio <= 1.0,
            f"{baseline_in} / {fpn_in}; batch 2, 256x256",
        ),
        Measurement(
            "ExFuse (DAP last, SEB, ECRE with its loss) / GCN baseline, training step",
            last_ms,
            baseline_ms,
            "ms",
            slower,
            "<= 1.60",
            slower <= 1.6,
            f"{last_in} / {baseline_in}; batch 2, 256x256",
        ),
        Measurement(
            "ExFuse (DAP last, SEB, ECRE), forward operations of one image",
            gflops,
            None,
            "GFLOPs",
            gflops,
            "< 30",
            gflops < 30,
            "2 per multiply-add, FlopCounterMode, training graph, 256x256",
        ),
    ]


def _wide(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    wide, layers = (build("ExFuse, DAP wide", device, _BACKBONE, fast=fast) for fast in (True, False))
    progress("training steps: ExFuse with DAP wide, fast and plain")
    (fast, fast_in), (plain, plain_in) = best_steps([wide, layers], device)
    return [
        Measurement(
            "ExFuse with the decoder 189 wide / plain composition of the same layers, training step",
            fast,
            plain,
            "ms",
            fast / plain,
            "<= 0.65",
            fast / plain <= 0.65,
            f"{fast_in} / {plain_in}; batch 2, 256x256",
        )
    ]


def _embedding(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    levels = (2, 3, 4, 5)
    sizes = [_SIZE // 2**level for level in levels]
    embedding = ProductEmbedding(_CHANNELS, levels).to(device).to(memory_format=torch.channels_last)
    maps = [
        torch.randn(2, width, side, side, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
        for width, side in zip(_CHANNELS, sizes, strict=True)
    ]
    progress("SEB alone")
    sides = [embedding, accelerate(copy.deepcopy(embedding))]
    times = [alternate([partial(_embed, side, maps, half) for side in sides], _REPEATS, 2, device) for half in FORMATS.values()]
    plain, fast = (min(taken) for taken in zip(*times, strict=True))
    return [
        Measurement(
            "SEB, forward and backward / one convolution after the other",
            fast,
            plain,
            "ms",
            fast / plain,
            "<= 1.00",
            fast <= plain,
            "maps of a ResNet50 at batch 2, 256x256; the better of float32 and bfloat16",
        )
    ]


def _embed(embedding: nn.Module, maps: list[Tensor], half: bool) -> None:
    embedding.zero_grad(set_to_none=True)
    for one in maps:
        one.grad = None
    with torch.autocast(maps[0].device.type, torch.bfloat16, enabled=half):
        embedded = embedding(maps)
    torch.autograd.backward(embedded, [torch.ones_like(one) for one in embedded])


def _averaging(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """In both memory layouts and number formats; the bound is for contiguous float32."""
    lines = []
    for dtype in (torch.float32, torch.bfloat16):
        for layout, memory_format in _LAYOUTS.items():
            name = f"{layout}, {str(dtype).removeprefix('torch.')}"
            progress(f"DAP's averaging, {name}")
            scores = torch.randn(_AVERAGED, device=device).to(dtype).contiguous(memory_format=memory_format).requires_grad_()
            sides = [accelerate(AdjacentPrediction(CLASSES, _WINDOW)), AdjacentPrediction(CLASSES, _WINDOW)]
            ours, plain = alternate([partial(_both_ways, side, scores) for side in sides], 9, 2, device)
            bounded = (layout, dtype) == ("contiguous", torch.float32)
            lines.append(
                Measurement(
                    "DAP's averaging / padding and slicing, forward and backward",
                    ours,
                    plain,
                    "ms",
                    plain / ours,
                    ">= 8.00" if bounded else "reported",
                    plain / ours >= 8 or not bounded,
                    f"(2, 189, 256, 256), {name}; keeps nothing for the backward pass",
                )
            )
    return lines


def _layouts(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """What ``runtime.channels_last: auto`` and ``runtime.composed`` choose between, at the size of ``recipe=voc``."""
    subjects = [(name, _BACKBONE, True) for name in VARIANTS] + [("ExFuse, DAP wide", _BACKBONE, False)]
    subjects.append(("GCN baseline", "resnext101_32x4d", True))
    lines = []
    for name, backbone, fast in subjects:
        what = f"{name}, {backbone}{'' if fast else ', layer after layer'}"
        progress(f"layouts: {what}")
        model, (image, truth) = build(name, device, backbone, fast=fast), batch(device, _LARGE, _MANY)
        taken = {}
        for layout, memory_format in _LAYOUTS.items():
            model, image = model.to(memory_format=memory_format), image.contiguous(memory_format=memory_format)
            (taken[layout],) = alternate([partial(training_step, model, image, truth, True)], _REPEATS, 3, device)
        ours, plain = taken["channels_last"], taken["contiguous"]
        details = f"bfloat16, batch {_MANY}, {_LARGE}x{_LARGE}"
        item = f"training step in channels_last / contiguous: {what}"
        lines.append(Measurement(item, ours, plain, "ms", ours / plain, "reported", True, details))
    return lines


def _both_ways(head: nn.Module, scores: Tensor) -> None:
    mean = head(scores)
    torch.autograd.grad(mean, scores, torch.ones_like(mean))


def best_steps(models: list[nn.Module], device: str) -> list[tuple[float, str]]:
    """For each model the median milliseconds of a training step in the better number format, and its name."""
    image, truth = batch(device, _SIZE)
    steps = [partial(training_step, model, image, truth, half) for half in FORMATS.values() for model in models]
    times = alternate(steps, _REPEATS, 2, device)
    by_format = [times[: len(models)], times[len(models) :]]
    return [min(zip(both, FORMATS, strict=True)) for both in zip(*by_format, strict=True)]


def forward_gflops(model: Segmenter, device: str) -> float:
    """GFLOPs of one image in the training graph."""
    image, _ = batch(device, _SIZE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() / 1e9 / len(image)
