"""Explicit channel resolution embedding (ECRE), ExFuse section 3.2: the decoder's first upsampling.

The paper replaces the first deconvolution (res-5 to res-4's size) by a sub-pixel upsampling with an auxiliary loss on
its output; table 4 compares both parts alone. Here the two parts are the two arguments of one slot: which upsampling, and
how much its auxiliary loss weighs (0: no such loss, and no output for it).
"""

from torch import Tensor, nn

from exfuse.limits import NonNegativeFloat
from exfuse.models.upsample import Deconvolution, bilinear_phases


class SubpixelConvolution(nn.Module):
    """Convolution to scale^2 times the channels, then pixel shuffle: (B, C, H, W) -> (B, C, scale*H, scale*W), scale 1 or 2.

    The 3x3 kernel is chosen; it starts as bilinear interpolation, exactly like the deconvolution it replaces, so that
    variants of one seed start from the same function.

    Example:
        The paper adds a segmentation loss on what it gives; `exfuse.techniques.channel_resolution.subpixel` weighs it.

        >>> from torch import randn
        >>> SubpixelConvolution(channels=21)(randn(2, 21, 16, 24)).shape
        torch.Size([2, 21, 32, 48])
    """

    def __init__(self, channels: int, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.convolution = nn.Conv2d(channels, channels * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        channels = self.convolution.in_channels
        nn.init.zeros_(self.convolution.weight)
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)
        kernels = bilinear_phases(self.scale)  # (scale^2, 3, 3)
        weight = self.convolution.weight.data.unflatten(0, (channels, self.scale**2))  # (C, scale^2, C, 3, 3)
        for channel in range(channels):
            weight[channel, :, channel] = kernels

    def forward(self, scores: Tensor) -> Tensor:
        return self.shuffle(self.convolution(scores))


class FirstUpsampling(nn.Module):
    """The slot of ECRE: an upsampling and the weight of the auxiliary segmentation loss on its output.

    Shapes:
        input (B, C, H, W); output (B, C, scale*H, scale*W).
    """

    def __init__(self, upsampling: nn.Module, auxiliary_weight: float) -> None:
        super().__init__()
        if auxiliary_weight < 0:
            raise ValueError(f"auxiliary_weight must not be negative, got {auxiliary_weight}")
        self.upsampling = upsampling
        self.auxiliary_weight = auxiliary_weight

    def forward(self, scores: Tensor) -> Tensor:
        return self.upsampling(scores)


def deconvolution(channels: int, scale: int, auxiliary_weight: NonNegativeFloat) -> FirstUpsampling:
    """The baseline's first upsampling, plain (weight 0) or supervised (table 4's second row)."""
    return FirstUpsampling(Deconvolution(channels, scale), auxiliary_weight)


def subpixel(channels: int, scale: int, auxiliary_weight: NonNegativeFloat) -> FirstUpsampling:
    """Sub-pixel upsampling alone (weight 0, table 4's third row) or with its loss: ECRE."""
    return FirstUpsampling(SubpixelConvolution(channels, scale), auxiliary_weight)
