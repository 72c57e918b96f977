"""Training steps of whole models: ours against smp's, against each other, against their plain forms and the public ExFuse."""

import copy
from collections.abc import Callable
from functools import partial

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from exfuse.benchmarks.public import PublicExFuse
from exfuse.benchmarks.report import Measurement, hold, profile_of
from exfuse.benchmarks.variants import CLASSES, FORMATS, VARIANTS, batch, build_variant, training_step
from exfuse.fusing.training import accelerate
from exfuse.memory import keep_freed_memory
from exfuse.techniques.adjacent_prediction import AdjacentPrediction
from exfuse.techniques.embedding_branch import ProductEmbedding
from exfuse.timing import median_ms

_SIZE, _BACKBONE = 256, "resnet50"
_LARGE, _MANY = 512, 8  # the crop of recipe=voc, and half its batch
_CHANNELS = (256, 512, 1024, 2048)  # of its maps
_REPEATS = 7
_AVERAGED, _WINDOW = (2, 189, 256, 256), 3  # DAP's scores at full resolution
_LARGE_CONVOLUTIONS = ((189, 128), (256, 64), (512, 32))  # channels in and out, side of the map
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """ResNet50, 21 classes, batch 2, 256x256, channels_last; the better of float32 and bfloat16 autocast for each side."""
    keep_freed_memory()  # as in training
    return [
        *_steps(device, progress),
        *_embedding(device, progress),
        *_averaging(device, progress),
        *(_layouts(device, progress) if device == "cuda" else []),
    ]


def _steps(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """All in turns in this one process."""

    def placed(model: nn.Module) -> nn.Module:
        return model.to(device).to(memory_format=torch.channels_last).train()

    fpn, deeplab = "FPN of segmentation_models_pytorch", "DeepLabV3+ of segmentation_models_pytorch"
    public, plain = "the public ExFuse's layers", "plain composition of the same layers"
    models = {
        fpn: placed(smp.FPN(_BACKBONE, encoder_weights=None, classes=CLASSES)),
        deeplab: placed(smp.DeepLabV3Plus(_BACKBONE, encoder_weights=None, classes=CLASSES)),
        public: placed(PublicExFuse(CLASSES, _BACKBONE)),
        **{name: build_variant(name, device, _BACKBONE) for name in VARIANTS},
        plain: build_variant("ExFuse, DAP wide", device, _BACKBONE, fast=False),
    }
    progress(f"training steps of {len(models)} models in turns")
    taken = dict(zip(models, best_steps([*models.values()], device), strict=True))
    progress("operations and profiles")
    image, truth = batch(device, _SIZE)
    steps = {name: partial(training_step, model, image, truth, FORMATS[taken[name][1]]) for name, model in models.items()}
    work = {name: gflops(step) for name, step in steps.items()}

    def against(ours: str, other: str, target: str) -> Measurement:
        (mine, mine_in), (theirs, theirs_in) = taken[ours], taken[other]
        counts = f"{work[ours]:.0f} / {work[other]:.0f} GFLOP, {work[ours] / work[other]:.2f} of its arithmetic"
        details = f"{mine_in} / {theirs_in}; batch 2, {_SIZE}x{_SIZE}; {counts}"
        item = f"training step: {ours} / {other}"
        return hold(item, mine, theirs, "ms", target, details, profile=lambda: profile_of(steps[ours]))

    baseline, last, wide = VARIANTS
    wide_ms, wide_in = taken[wide]
    reached, peak = work[wide] / wide_ms * 1e3, _convolution_peak(device, FORMATS[wide_in])
    counted = "2 per multiply-add, FlopCounterMode"
    return [
        against(baseline, fpn, "<= 0.97"),
        against(baseline, deeplab, ""),
        against(last, baseline, "<= 1.50"),
        against(last, public, "<= 0.40"),
        against(wide, plain, "<= 0.60"),
        against(wide, public, "<= 1.30"),
        hold(
            f"arithmetic of {wide}'s training step / peak of single convolutions here",
            reached,
            peak,
            "GFLOP/s",
            ">= 0.70",
            f"{wide_in}; {counted}, forward and backward; peak: the fastest of {len(_LARGE_CONVOLUTIONS)} 3x3 convolutions",
            profile=lambda: profile_of(steps[wide]),
        ),
        hold(
            "ExFuse (DAP last, SEB, ECRE), forward operations of one image",
            forward_gflops(models[last], device),
            None,
            "GFLOPs",
            "< 30",
            f"{counted}, training graph, {_SIZE}x{_SIZE}",
        ),
    ]


def _convolution_peak(device: str, half: bool) -> float:
    """GFLOP/s of the fastest of a few large 3x3 convolutions, forward alone."""
    rates = []
    for channels, side in _LARGE_CONVOLUTIONS:
        dtype = torch.bfloat16 if half else torch.float32
        layer = nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype).to(memory_format=torch.channels_last)
        maps = torch.randn(2, channels, side, side, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            (taken,) = median_ms([partial(layer, maps)], _REPEATS, 2, device)
        rates.append(2 * 9 * channels**2 * 2 * side**2 / taken / 1e6)
    return max(rates)


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
    times = [median_ms([partial(_embed, side, maps, half) for side in sides], _REPEATS, 2, device) for half in FORMATS.values()]
    plain, fast = (min(taken) for taken in zip(*times, strict=True))
    details = "maps of a ResNet50 at batch 2, 256x256; the better of float32 and bfloat16"
    return [hold("SEB, forward and backward / one convolution after the other", fast, plain, "ms", "<= 1.00", details)]


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
            ours, plain = median_ms([partial(_both_ways, side, scores) for side in sides], 9, 2, device)
            bounded = (layout, dtype) == ("contiguous", torch.float32)
            lines.append(
                hold(
                    "DAP's averaging / padding and slicing, forward and backward",
                    ours,
                    plain,
                    "ms",
                    ">= 8.00" if bounded else "",
                    f"(2, 189, 256, 256), {name}; keeps nothing for the backward pass",
                    faster=True,
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
        model, (image, truth) = build_variant(name, device, backbone, fast=fast), batch(device, _LARGE, _MANY)
        taken = {}
        for layout, memory_format in _LAYOUTS.items():
            model, image = model.to(memory_format=memory_format), image.contiguous(memory_format=memory_format)
            (taken[layout],) = median_ms([partial(training_step, model, image, truth, True)], _REPEATS, 3, device)
        ours, plain = taken["channels_last"], taken["contiguous"]
        details = f"bfloat16, batch {_MANY}, {_LARGE}x{_LARGE}"
        item = f"training step in channels_last / contiguous: {what}"
        lines.append(hold(item, ours, plain, "ms", details=details))
    return lines


def _both_ways(head: nn.Module, scores: Tensor) -> None:
    mean = head(scores)
    torch.autograd.grad(mean, scores, torch.ones_like(mean))


def best_steps(models: list[nn.Module], device: str) -> list[tuple[float, str]]:
    """For each model the median milliseconds of a training step in its better number format, and that one's name."""
    image, truth = batch(device, _SIZE)
    steps = [{name: partial(training_step, model, image, truth, half) for name, half in FORMATS.items()} for model in models]
    tried = iter(median_ms([step for both in steps for step in both.values()], 1, 1, device))
    better = [min((next(tried), name) for name in both)[1] for both in steps]
    times = median_ms([both[name] for both, name in zip(steps, better, strict=True)], _REPEATS, 0, device)
    return list(zip(times, better, strict=True))


def forward_gflops(model: nn.Module, device: str) -> float:
    """GFLOPs of one image in the training graph."""
    image, _ = batch(device, _SIZE)
    with torch.no_grad():
        return gflops(partial(model, image)) / len(image)


def gflops(call: Callable[[], object]) -> float:
    """GFLOPs of what a call calculates."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9
