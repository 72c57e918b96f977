"""Two linear layers in a row as one convolution: the same function with fewer operations and no map between them.

Off the border the composition of the kernels is all there is to it. At the border the plain layers pad the map between them with
zeros, where a composed kernel would see what the first layer makes of positions just outside. Those values, a frame one position
wide, are calculated and what the second layer reads from them is taken off again, so that the border is exact too.

Everything here is for a second layer with a 3x3 kernel and padding 1.
"""

from typing import Any, NamedTuple

from torch import Tensor, autograd
from torch.nn import functional as F


class Frame(NamedTuple):
    """What a layer makes of the positions around its (H, W) output: (B, C, 1, W + 2) twice and (B, C, H, 1) twice."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor


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
    outcome = F.conv2d(maps, composed, _bias_through(second, bias), padding=2)
    frame = Frame(
        F.conv2d(maps[:, :, :1], weight[:, :, 2:], bias, padding=(0, 2)),
        F.conv2d(maps[:, :, -1:], weight[:, :, :1], bias, padding=(0, 2)),
        F.conv2d(maps[..., :1], weight[..., 2:], bias, padding=(1, 0)),
        F.conv2d(maps[..., -1:], weight[..., :1], bias, padding=(1, 0)),
    )
    return _without(outcome, frame, second)


def convolve_upsampled(
    maps: Tensor, weight: Tensor, bias: Tensor, second: Tensor, second_bias: Tensor | None, size: tuple[int, int]
) -> Tensor:
    """``conv(deconv(maps)[..., :H, :W], second, second_bias)`` as one sub-pixel convolution at the resolution of ``maps``.

    Args:
        maps: (B, I, h, w).
        weight, bias: of a 4x4 deconvolution of stride 2 and padding 1, (I, M, 4, 4) and (M,).
        second, second_bias: of the convolution behind it, (O, M, 3, 3) and (O,); no bias if None.
        size: (H, W), to which the deconvolution's output is cut: 2h or 2h - 1, 2w or 2w - 1.

    Returns:
        (B, O, H, W).
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
    outcome = F.conv2d(maps, phases, shift.repeat(4), padding=1)
    outcome = _shuffle(outcome)[..., : size[0], : size[1]]
    return _without(outcome, _frame_of_upsampled(maps, weight, bias, size), second)


def _frame_of_upsampled(maps: Tensor, weight: Tensor, bias: Tensor, size: tuple[int, int]) -> Frame:
    height, width = size
    first_row, last_row, first_column, last_column = (
        # without padding the output starts one position outside
        F.conv_transpose2d(edge, weight, bias, stride=2)
        for edge in (maps[:, :, :1], maps[:, :, -1:], maps[..., :1], maps[..., -1:])
    )
    below, beside = height - 2 * maps.shape[2] + 3, width - 2 * maps.shape[3] + 3
    return Frame(
        first_row[:, :, :1, : width + 2],
        last_row[:, :, below : below + 1, : width + 2],
        first_column[:, :, 1 : height + 1, :1],
        last_column[:, :, 1 : height + 1, beside : beside + 1],
    )


def _without(outcome: Tensor, frame: Frame, kernel: Tensor) -> Tensor:
    """``outcome`` less what ``kernel`` reads from ``frame``, in place."""
    return _TakeOffBorder.apply(
        outcome,
        F.conv2d(frame.top, kernel[:, :, :1]),
        F.conv2d(frame.bottom, kernel[:, :, 2:]),
        F.conv2d(frame.left, kernel[..., :1], padding=(1, 0)),
        F.conv2d(frame.right, kernel[..., 2:], padding=(1, 0)),
    )


class _TakeOffBorder(autograd.Function):
    """Subtract (B, C, 1, W) from the first and last row and (B, C, H, 1) from the first and last column, in place.

    Autograd's own slices would copy the whole gradient once for each of the four.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.mark_dirty(maps)
        maps[:, :, :1] -= top
        maps[:, :, -1:] -= bottom
        maps[..., :1] -= left
        maps[..., -1:] -= right
        return maps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        borders = gradient[:, :, :1], gradient[:, :, -1:], gradient[..., :1], gradient[..., -1:]
        return gradient, *(-border for border in borders)


def _bias_through(second: Tensor, bias: Tensor) -> Tensor:
    return (second.sum((2, 3)) * bias).sum(1)


def _shuffle(phases: Tensor) -> Tensor:
    """(B, 2 * 2 * C, h, w), row phase first, then column phase, to (B, C, 2h, 2w) in channels_last: runs of 2C stay together."""
    batch, channels, height, width = phases.shape
    rows = phases.permute(0, 2, 3, 1).reshape(batch, height, width, 2, channels // 2)
    return rows.transpose(2, 3).reshape(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)
