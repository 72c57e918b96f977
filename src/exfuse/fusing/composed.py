"""Two linear layers in a row as one convolution: the same function with fewer operations and no map between them.

Off the border the composition of the kernels is all there is to it. At the border the plain layers pad the map between them
with zeros, where a composed kernel sees what the first layer would make of positions just outside. Those values, a frame one
position wide, are calculated, and what the second layer reads from them is taken off again: the border is exact too.

Everything here is for a second layer with a 3x3 kernel and padding 1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, autograd
from torch.nn import functional as F


class Frame(NamedTuple):
    """What a layer makes of the positions around its (H, W) output: (B, C, 1, W + 2) twice and (B, C, H, 1) twice."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor

    def read_by(self, kernel: Tensor) -> "Frame":
        """What a 3x3 ``kernel`` (O, C, 3, 3) reads from here at the border of the map: (B, O, 1, W) and (B, O, H, 1)."""
        return Frame(
            F.conv2d(self.top, kernel[:, :, :1]),
            F.conv2d(self.bottom, kernel[:, :, 2:]),
            F.conv2d(self.left, kernel[..., :1], padding=(1, 0)),
            F.conv2d(self.right, kernel[..., 2:], padding=(1, 0)),
        )


def convolve_twice(maps: Tensor, weight: Tensor, bias: Tensor, second: Tensor) -> Tensor:
    """``conv(conv(maps, weight, bias), second)``, both 3x3 with padding 1, as one 5x5 convolution.

    It pays where the map between has many more channels than the maps before and after.

    Args:
        maps: (B, I, H, W).
        weight, bias: of the first layer, (M, I, 3, 3) and (M,).
        second: kernel of the second, (O, M, 3, 3).

    Returns:
        (B, O, H, W).
    """
    # out[o, i, p] = sum over m and u + v = p of second[o, m, u] * weight[m, i, v]
    composed = F.conv_transpose2d(second, weight)
    maps, edges = with_edges(maps)
    outcome = F.conv2d(maps, composed, _bias_through(second, bias), padding=2)
    outside = Frame(
        F.conv2d(edges.top, weight[:, :, 2:], bias, padding=(0, 2)),
        F.conv2d(edges.bottom, weight[:, :, :1], bias, padding=(0, 2)),
        F.conv2d(edges.left, weight[..., 2:], bias, padding=(1, 0)),
        F.conv2d(edges.right, weight[..., :1], bias, padding=(1, 0)),
    )
    return _TakeOff.apply(outcome, *outside.read_by(second))


def convolve_upsampled(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor,
    outside: Frame,
    second: Tensor,
    second_bias: Tensor | None,
    size: tuple[int, int],
) -> Tensor:
    """``conv(deconv(maps)[..., :H, :W], second, second_bias)`` as one sub-pixel convolution at the resolution of ``maps``.

    Args:
        maps: (B, I, h, w).
        weight, bias: of a 4x4 deconvolution of stride 2 and padding 1, (I, M, 4, 4) and (M,).
        outside: `frame_of_upsampled`.
        second, second_bias: of the convolution behind it, (O, M, 3, 3) and (O,); no bias if None.
        size: (H, W), to which the deconvolution's output is cut: 2h or 2h - 1, 2w or 2w - 1.

    Returns:
        (B, O, H, W), in channels_last.
    """
    inputs, outputs = len(weight), len(second)
    # An output at 2 * i + k - 1 of the deconvolution lies at tap u of the convolution at 2 * i + k - u.
    composed = F.conv_transpose2d(weight, second.transpose(0, 1).flip(2, 3))  # (I, O, 6, 6), stride 2, padding 2
    # Of its 6 taps along an axis, each of the two phases sees every other: 3 positions of `maps`.
    taps = composed.view(inputs, outputs, 3, 2, 3, 2).flip(2, 4)
    phases = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
    shift = _bias_through(second, bias)
    if second_bias is not None:
        shift = shift + second_bias
    return _Shuffle.apply(F.conv2d(maps, phases, shift.repeat(4), padding=1), size, *outside.read_by(second))


def frame_of_upsampled(edges: Frame, inner: Sequence[int], weight: Tensor, bias: Tensor, size: Sequence[int]) -> Frame:
    """What the deconvolution of `convolve_upsampled` makes of the positions around its output, cut to ``size``.

    Args:
        edges: of its input, from `with_edges`.
        inner: (h, w) of its input.
        weight, bias, size: as there.
    """
    height, width = size
    below, beside = height - 2 * inner[0] + 3, width - 2 * inner[1] + 3
    # without padding the output starts one position outside
    first_row, last_row = (F.conv_transpose2d(edge, weight, bias, stride=2) for edge in (edges.top, edges.bottom))
    half = first_row.dtype == torch.bfloat16  # under autocast, whatever the map's
    first_column = _column_of_upsampled(edges.left, weight, bias, 0, half)
    last_column = _column_of_upsampled(edges.right, weight, bias, beside, half)
    return Frame(
        first_row[:, :, :1, : width + 2],
        last_row[:, :, below : below + 1, : width + 2],
        first_column[:, :, 1 : height + 1],
        last_column[:, :, 1 : height + 1],
    )


def _column_of_upsampled(edge: Tensor, weight: Tensor, bias: Tensor, column: int, half: bool) -> Tensor:
    """One of the four columns that a deconvolution of stride 2 makes of one.

    In bfloat16 from that column of its kernel alone, which gives the same numbers: the gradient of the whole is wrong on
    processors with AMX, where oneDNN reads memory that nobody wrote behind maps one position wide. In other formats the
    gradient of the weights would differ in its last bits, and stays what it was.
    """
    only = slice(column, column + 1)
    if half:
        return F.conv_transpose2d(edge, weight[..., only], bias, stride=(2, 1))
    return F.conv_transpose2d(edge, weight, bias, stride=2)[..., only]


def with_edges(maps: Tensor) -> tuple[Tensor, Frame]:
    """``maps`` and its first and last row and column; what follows must use the returned map instead of the given one."""
    whole, *edges = _Edges.apply(maps)
    return whole, Frame(*edges)


class _Edges(autograd.Function):
    """Gradients of rows and columns are added to the map's in place, where autograd would add a whole map for each."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        return maps.view_as(maps), *(edge.clone() for edge in _borders(maps))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *edges: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        for border, edge in zip(_borders(gradient), edges, strict=True):
            border += edge
        return gradient


class _TakeOff(autograd.Function):
    """Subtract (B, C, 1, W) from the first and last row and (B, C, H, 1) from the first and last column, in place."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, *edges: Tensor) -> Tensor:
        ctx.mark_dirty(maps)
        for border, edge in zip(_borders(maps), edges, strict=True):
            border -= edge
        return maps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # noqa: ARG004
        return gradient, *(-border for border in _borders(gradient))


class _Shuffle(autograd.Function):
    """(B, 2 * 2 * C, h, w), row phase first, then column phase, to (B, C, H, W); then as `_TakeOff`. In channels_last."""

    @staticmethod
    def forward(ctx: Any, phases: Tensor, size: tuple[int, int], *edges: Tensor) -> Tensor:
        batch, channels, *inner = phases.shape
        ctx.inner = inner
        whole = _channels_last(phases, (batch, channels // 4, 2 * inner[0], 2 * inner[1]))
        _by_phase(whole).copy_(phases.permute(0, 2, 3, 1).unflatten(3, (2, -1)))
        maps = whole
        if tuple(whole.shape[2:]) != tuple(size):  # a copy: autograd lets nobody work in place on a view
            maps = whole[..., : size[0], : size[1]].clone(memory_format=torch.channels_last)
        for border, edge in zip(_borders(maps), edges, strict=True):
            border -= edge
        return maps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (height, width), (batch, channels, *size) = ctx.inner, gradient.shape
        missing = 2 * height - size[0], 2 * width - size[1]
        whole = F.pad(gradient, (0, missing[1], 0, missing[0])) if any(missing) else gradient
        whole = whole.contiguous(memory_format=torch.channels_last)
        phases = _channels_last(gradient, (batch, 4 * channels, height, width))
        phases.permute(0, 2, 3, 1).unflatten(3, (2, -1)).copy_(_by_phase(whole))
        return phases, None, *(-border for border in _borders(gradient))


def _by_phase(maps: Tensor) -> Tensor:
    """A view of (B, C, 2h, 2w) in channels_last as (B, h, w, 2, 2C): runs of 2C stay together."""
    batch, channels, height, width = maps.shape
    rows = maps.permute(0, 2, 3, 1).view(batch, height // 2, 2, width // 2, 2 * channels)
    return rows.transpose(2, 3)


def _channels_last(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _borders(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return maps[:, :, :1], maps[:, :, -1:], maps[..., :1], maps[..., -1:]


def _bias_through(second: Tensor, bias: Tensor) -> Tensor:
    return (second.sum((2, 3)) * bias).sum(1)
