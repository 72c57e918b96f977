"""DAP's averaging alone: 189 channels at full resolution, forward and backward."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from exfuse.benchmarks.measurement import Measurement, alternate
from exfuse.fusing.shifted_mean import ShiftedMean
from exfuse.runs.allocator import keep_freed_memory
from exfuse.techniques.adjacent_prediction import shifted_mean

_SHAPE, _CLASSES, _WINDOW = (2, 189, 256, 256), 21, 3
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """Against padding and slicing, in both memory layouts and number formats; the bound is for contiguous float32."""
    keep_freed_memory()  # as in training
    lines = []
    for dtype in (torch.float32, torch.bfloat16):
        for layout, memory_format in _LAYOUTS.items():
            name = f"{layout}, {str(dtype).removeprefix('torch.')}"
            progress(f"DAP's averaging, {name}")
            scores = torch.randn(_SHAPE, device=device).to(dtype).contiguous(memory_format=memory_format).requires_grad_()
            sides = [partial(_both_ways, run, scores) for run in (ShiftedMean.apply, shifted_mean)]
            ours, plain = alternate(sides, 9, 2, device)
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


def _both_ways(run: Callable[[Tensor, int, int], Tensor], scores: Tensor) -> None:
    mean = run(scores, _CLASSES, _WINDOW)
    torch.autograd.grad(mean, scores, torch.ones_like(mean))
