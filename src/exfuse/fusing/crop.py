"""Cut off by how much doubling overshoots a size that an encoder had rounded up."""

import torch
from torch import Tensor


def crop(maps: Tensor, height: int, width: int) -> Tensor:
    """The first ``height`` rows and ``width`` columns of (B, C, h, w)."""
    if torch.compiler.is_compiling():
        # A slice that sometimes cuts and sometimes does not makes torch.export fix which: these always copy.
        rows, columns = (torch.arange(length, device=maps.device) for length in (height, width))
        return maps.index_select(2, rows).index_select(3, columns)
    return maps[..., :height, :width]


def divided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """An image's (H, W) divided by a stride and rounded up, as encoders do."""
    # written as a convolution's output size is, so that torch.export sees that skips and maps are of one size
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1
