"""3x3 convolutions of small maps with many channels on a CPU, where the weights and not the map decide the time."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.techniques.embedding_branch import ScaledConvolution

# Measured on an AVX-512 machine with 2048 channels in: half the time with 128 positions, a tenth more with 512.
_MOST_POSITIONS = 256
_FEWEST_CHANNELS = 1024


def convolve_each(maps: Tensor, convolutions: Sequence[nn.Conv2d]) -> list[Tensor]:
    """``[convolution(maps) for convolution in convolutions]``, with the patches gathered once where that is faster.

    Args:
        maps: (B, I, H, W).
        convolutions: 3x3 with padding 1 and a bias; a `ScaledConvolution` is calculated as what it is.

    Returns:
        One (B, O_i, H, W) each.
    """
    if not convolutions or not _pays(maps, convolutions):
        return [convolution(maps) for convolution in convolutions]
    batch, channels, height, width = maps.shape
    first = convolutions[0]
    columns = patches(maps * first.scale if isinstance(first, ScaledConvolution) else maps)  # one scale, of their common input
    outcomes = []
    for convolution in convolutions:
        kernel = convolution.weight.permute(0, 2, 3, 1).reshape(-1, 9 * channels)  # a view in channels_last
        rows = F.linear(columns, kernel, convolution.bias)
        outcomes.append(rows.view(batch, height, width, -1).permute(0, 3, 1, 2))
    return outcomes


def patches(maps: Tensor) -> Tensor:
    """The 3x3 neighbourhood of every position, zeros outside: (B, C, H, W) -> (B * H * W, 9 * C), channels innermost."""
    batch, channels, height, width = maps.shape
    padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    shifted = [padded[:, row : row + height, col : col + width] for row in range(3) for col in range(3)]
    return torch.cat(shifted, dim=3).view(batch * height * width, 9 * channels)


def _pays(maps: Tensor, convolutions: Sequence[nn.Conv2d]) -> bool:
    batch, channels, height, width = maps.shape
    return (
        convolutions[0].training  # traced and exported models keep their convolutions
        and maps.device.type == "cpu"
        and channels >= _FEWEST_CHANNELS
        and batch * height * width <= _MOST_POSITIONS
        and all(convolution.weight.is_contiguous(memory_format=torch.channels_last) for convolution in convolutions)
    )
