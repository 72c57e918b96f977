"""Training steps of whole models: the baseline against smp's FPN, ExFuse against the baseline and against its plain form."""

from collections.abc import Callable
from functools import partial

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from exfuse.benchmarks.measurement import Measurement, alternate
from exfuse.benchmarks.plain import plain_forward, plain_product, upsampling_first
from exfuse.benchmarks.variants import CLASSES, FORMATS, batch, build, training_step
from exfuse.models.segmenter import Segmenter
from exfuse.runs.allocator import keep_freed_memory
from exfuse.techniques.embedding_branch import ProductEmbedding

_SIZE, _BACKBONE = 256, "resnet50"
_CHANNELS = (256, 512, 1024, 2048)  # of its maps
_REPEATS = 7


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """ResNet50, 21 classes, batch 2, 256x256, channels_last; the better of float32 and bfloat16 autocast for each side."""
    keep_freed_memory()  # as in training
    return [*_against_fpn(device, progress), *_wide(device, progress), *_embedding(device, progress)]


def _against_fpn(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    fpn = smp.FPN(_BACKBONE, encoder_weights=None, classes=CLASSES).to(device).to(memory_format=torch.channels_last).train()
    baseline, last = build("GCN baseline", device, _BACKBONE), build("ExFuse, DAP last", device, _BACKBONE)
    progress("training steps: FPN of segmentation_models_pytorch, the GCN baseline, ExFuse with DAP last")
    times = best_steps([(fpn, fpn), (baseline, baseline), (last, last)], device)
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
    wide = build("ExFuse, DAP wide", device, _BACKBONE)
    progress("training steps: ExFuse with DAP wide, fast and plain")
    (fast, fast_in), (plain, plain_in) = best_steps([(wide, wide), (wide, partial(plain_forward, wide))], device)
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
    sides = [_SIZE // 2**level for level in levels]
    embedding = ProductEmbedding(_CHANNELS, levels).to(device).to(memory_format=torch.channels_last)
    maps = [
        torch.randn(2, width, side, side, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
        for width, side in zip(_CHANNELS, sides, strict=True)
    ]
    progress("SEB alone")
    fast, plain = (
        min(times)
        for times in zip(
            *(
                alternate(
                    [partial(_embed, embedding, run, maps, half) for run in (embedding, _plain(embedding))], _REPEATS, 2, device
                )
                for half in FORMATS.values()
            ),
            strict=True,
        )
    )
    ours, late = (
        _gflops(partial(run, [one.detach() for one in maps])) / 2 for run in (embedding, partial(upsampling_first, embedding))
    )
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
        ),
        Measurement(
            "SEB, operations of one image / convolving after upsampling",
            ours,
            late,
            "GFLOPs",
            ours / late,
            "< 1.00",
            ours < late,
            "2 per multiply-add",
        ),
    ]


def _plain(embedding: ProductEmbedding) -> Callable[[list[Tensor]], list[Tensor]]:
    return partial(plain_product, embedding)


def _embed(embedding: nn.Module, run: Callable[[list[Tensor]], list[Tensor]], maps: list[Tensor], half: bool) -> None:
    embedding.zero_grad(set_to_none=True)
    for one in maps:
        one.grad = None
    with torch.autocast(maps[0].device.type, torch.bfloat16, enabled=half):
        embedded = run(maps)
    torch.autograd.backward(embedded, [torch.ones_like(one) for one in embedded])


def best_steps(sides: list[tuple[nn.Module, Callable[[Tensor], object]]], device: str) -> list[tuple[float, str]]:
    """For each (model, its forward): the median milliseconds of a training step in the better number format, and its name."""
    image, truth = batch(device, _SIZE)
    steps = [
        partial(training_step, model, forward, image, truth, half) for half in FORMATS.values() for model, forward in sides
    ]
    times = alternate(steps, _REPEATS, 2, device)
    by_format = [times[: len(sides)], times[len(sides) :]]
    return [min(zip(both, FORMATS, strict=True)) for both in zip(*by_format, strict=True)]


def forward_gflops(model: Segmenter, device: str) -> float:
    """GFLOPs of one image in the training graph."""
    image, _ = batch(device, _SIZE)
    return _gflops(partial(model, image)) / len(image)


def _gflops(run: Callable[[], object]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9
