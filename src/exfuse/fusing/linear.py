"""Kernels of composed linear layers. Each is exact where no layer's zero padding shows; the callers see to the borders."""

from torch import Tensor, nn
from torch.nn import functional as F


def compose(inner: Tensor, outer: Tensor) -> Tensor:
    """The kernel of a convolution by ``inner`` followed by one by ``outer``.

    Args:
        inner: (M, I, k, k).
        outer: (O, M, l, l).

    Returns:
        (O, I, k + l - 1, k + l - 1), computed in float64 and returned in the dtype of ``inner``.
    """
    return F.conv_transpose2d(outer.double(), inner.double()).to(inner.dtype)


def carried_bias(bias: Tensor, outer: Tensor) -> Tensor:
    """What a bias (M,) before a convolution by ``outer`` (O, M, l, l) adds to its output: (O,)."""
    return (outer.double().sum((2, 3)) @ bias.double()).to(bias.dtype)


def compose_after_deconvolution(deconvolution: Tensor, outer: Tensor) -> Tensor:
    """The kernel of a deconvolution followed by a convolution.

    Args:
        deconvolution: (I, M, k, k) as `torch.nn.ConvTranspose2d` holds it.
        outer: (O, M, l, l), l odd, padded by l // 2.

    Returns:
        (I, O, k + l - 1, k + l - 1): a deconvolution of the same stride, padded by l // 2 more.
    """
    reach = outer.shape[-1] // 2
    padded = F.pad(deconvolution.double(), (2 * reach,) * 4)
    return F.conv2d(padded, outer.double()).to(deconvolution.dtype)


def deconvolution_to_phases(kernel: Tensor, padding: int) -> Tensor:
    """A deconvolution of stride 2 as a convolution at its input's size, one group of channels for each of the 4 sub-pixels.

    Args:
        kernel: (I, O, k, k), k even.
        padding: of the deconvolution, k / 2 - 1, so that it doubles its input's size.

    Returns:
        (2, 2, O, I, l, l), l = 2 * ceil(padding / 2) + 1: the kernel of each sub-pixel (row, column). Convolved with it, padded
        by l // 2, every position i gives the deconvolution's output at 2 i + (row, column), borders included.
    """
    reach = (padding + 1) // 2
    side = 2 * reach + 1
    phases = kernel.new_zeros(2, 2, kernel.shape[1], kernel.shape[0], side, side)
    taps = [(sub, low, sub - 2 * low + padding) for sub in range(2) for low in range(-reach, reach + 1)]
    taps = [tap for tap in taps if 0 <= tap[2] < kernel.shape[-1]]
    for row, low_row, from_row in taps:
        for col, low_col, from_col in taps:
            phases[row, col, :, :, low_row + reach, low_col + reach] = kernel[:, :, from_row, from_col].T
    return phases


def convolution_to_phases(kernel: Tensor) -> Tensor:
    """A convolution of a map as one of its 4 sub-pixels, each a map of half the size.

    Args:
        kernel: (O, I, k, k), k odd, padded by k // 2.

    Returns:
        (2, 2, O, 2, 2, I, l, l), l = 2 * ceil(k // 2 / 2) + 1: to sub-pixels (row, column) from those of the input.
    """
    radius = kernel.shape[-1] // 2
    reach = (radius + 1) // 2
    side = 2 * reach + 1
    outputs, inputs = kernel.shape[:2]
    phases = kernel.new_zeros(2, 2, outputs, 2, 2, inputs, side, side)
    taps = [(to, (to + tap) % 2, (to + tap) // 2, tap + radius) for to in range(2) for tap in range(-radius, radius + 1)]
    for row, of_row, low_row, from_row in taps:
        for col, of_col, low_col, from_col in taps:
            phases[row, col, :, of_row, of_col, :, low_row + reach, low_col + reach] = kernel[:, :, from_row, from_col]
    return phases


def as_convolution(kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution by (O, I, k, k), k odd, that keeps H and W."""
    outputs, inputs, *_, side = kernel.shape
    convolution = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    convolution.weight, convolution.bias = nn.Parameter(kernel), nn.Parameter(bias)
    return convolution
