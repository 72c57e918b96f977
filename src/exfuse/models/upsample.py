"""Learned upsampling that starts as bilinear interpolation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Deconvolution(nn.Module):
    """Upsample by a learned deconvolution: (B, C, H, W) -> (B, C, scale*H, scale*W), scale 1 or 2.

    Scale 2 is GCN's 4x4 deconvolution of stride 2; scale 1, met only behind dilated encoders, is a 3x3 convolution.
    Starts as bilinear interpolation of each channel (FCN's habit), the identity at scale 1.
    """

    def __init__(self, channels: int, scale: int = 2) -> None:
        super().__init__()
        if scale not in (1, 2):
            raise ValueError(f"Deconvolution upsamples by 1 or 2, got {scale}")
        self.layer = (
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
            if scale == 2
            else nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        size = self.layer.kernel_size[0]
        ramp = torch.tensor([0.25, 0.75, 0.75, 0.25] if size == 4 else [0.0, 1.0, 0.0])
        nn.init.zeros_(self.layer.weight)
        assert self.layer.bias is not None
        nn.init.zeros_(self.layer.bias)
        diagonal = range(self.layer.in_channels)
        self.layer.weight.data[diagonal, diagonal] = torch.outer(ramp, ramp)

    def forward(self, scores: Tensor) -> Tensor:
        return self.layer(scores)


def enlarge(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear interpolation: (B, C, h, w) -> (B, C, H, W) of the same dtype, calculated in float32 where that is a half one.

    Its backward pass adds up to ``(2H / h) * (2W / w)`` gradients at a position: on GPUs one after the other, in the dtype of
    the map, each sum rounded.
    """
    wide = maps.float() if maps.dtype in (torch.bfloat16, torch.float16) else maps
    return F.interpolate(wide, size, mode="bilinear").to(maps.dtype)


def at_size(scores: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Scores (B, C, h, w) at ``size``, interpolated bilinearly in their own dtype where that is another."""
    return scores if scores.shape[-2:] == tuple(size) else F.interpolate(scores, size, mode="bilinear")


def cut(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The first (H, W) = ``size`` rows and columns of (B, C, H', W')."""
    if not torch.compiler.is_exporting():
        return maps[..., : size[0], : size[1]]
    # A slice that sometimes cuts and sometimes does not makes torch.export fix which: these always copy.
    rows, columns = (torch.arange(length, device=maps.device) for length in size)
    return maps.index_select(2, rows).index_select(3, columns)


def bilinear_phases(scale: int) -> Tensor:
    """The 3x3 kernels that give each sub-pixel of a bilinear interpolation: (scale^2, 3, 3), row-major phases.

    A convolution with them followed by a pixel shuffle equals `Deconvolution` at its start, borders included.
    """
    ramps = {1: [[0.0, 1.0, 0.0]], 2: [[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]]}
    if scale not in ramps:
        raise ValueError(f"sub-pixel upsampling by 1 or 2, got {scale}")
    phases = torch.tensor(ramps[scale])  # (scale, 3)
    return torch.einsum("ru,cv->rcuv", phases, phases).flatten(0, 1)
