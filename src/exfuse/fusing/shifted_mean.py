"""DAP's mean for training: the sum of `adjacent_prediction.shifted_mean` without padded copies and with nothing kept for the
backward pass."""

from collections.abc import Iterator
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, autograd

Region = tuple[EllipsisType, slice, slice]  # indexes rows and columns of (..., H, W)

# Half-precision scores that a CPU widens at a time: so many in float32 stay in its cache for the k*k passes over them.
_BAND = 2**20


class ShiftedMean(autograd.Function):
    """(B, k*k*C, H, W) -> (B, C, H, W), see `adjacent_prediction.AdjacentPrediction`.

    Half-precision scores are summed in float32 and rounded once.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, classes: int, window: int) -> Tensor:
        ctx.classes, ctx.window, ctx.shape, ctx.dtype = classes, window, scores.shape, scores.dtype
        ctx.layout = _layout(scores)
        batch, _, height, width = scores.shape
        mean = torch.empty((batch, classes, height, width), dtype=scores.dtype, device=scores.device, memory_format=ctx.layout)
        centre = window**2 // 2
        for image, first, last in _bands(scores):
            start, stop = max(0, first - window // 2), min(height, last + window // 2)
            groups = scores[image, :, start:stop].to(_wide(scores.dtype)).unflatten(1, (window**2, classes))
            total = groups[:, centre, :, first - start : last - start].clone()
            for group, here, there in _shifts(window, height, width, first, last, start):
                if group != centre:
                    total[here] += groups[:, group][there]
            mean[image, :, first:last] = total.div_(window**2)
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        share = (gradient / ctx.window**2).to(ctx.dtype).contiguous(memory_format=ctx.layout)
        result = torch.empty(ctx.shape, dtype=ctx.dtype, device=share.device, memory_format=ctx.layout)
        height, width = ctx.shape[-2:]
        edge = ctx.window // 2
        for border in (
            result[:, :, :edge],
            result[:, :, max(0, height - edge) :],
            result[..., :edge],
            result[..., max(0, width - edge) :],
        ):
            border.zero_()  # some of their scores predict for positions outside: nobody reads them
        groups = result.unflatten(1, (ctx.window**2, ctx.classes))
        for group, here, there in _shifts(ctx.window, height, width, 0, height, 0):
            groups[:, ctx.window**2 - 1 - group][here] = share[there]
        return result, None, None


def _bands(scores: Tensor) -> Iterator[tuple[slice, int, int]]:
    """Images and rows to work on at a time: all of them, except in half precision on a CPU."""
    batch, channels, height, width = scores.shape
    if scores.dtype == _wide(scores.dtype) or scores.device.type != "cpu" or torch.compiler.is_compiling():
        yield slice(None), 0, height
        return
    rows = max(1, _BAND // max(1, channels * width))
    for image in range(batch):
        for first in range(0, height, rows):
            yield slice(image, image + 1), first, min(height, first + rows)


def _shifts(window: int, height: int, width: int, first: int, last: int, start: int) -> Iterator[tuple[int, Region, Region]]:
    """For each group: its number, the positions in rows ``first`` to ``last`` whose neighbour of that offset lies on the map,
    counted from ``first``, and those neighbours, counted from row ``start``."""
    for row in range(window):
        for col in range(window):
            down, right = row - window // 2, col - window // 2
            top, bottom = max(first, -down), min(last, height - down)
            left, end = max(0, -right), min(width, width - right)
            if top < bottom and left < end:  # a window may reach past a small map on both sides
                here = (..., slice(top - first, bottom - first), slice(left, end))
                yield (
                    row * window + col,
                    here,
                    (..., slice(top + down - start, bottom + down - start), slice(left + right, end + right)),
                )


def _layout(scores: Tensor) -> torch.memory_format:
    contiguous = scores.is_contiguous()
    return torch.contiguous_format if contiguous else torch.channels_last


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
