"""Blocks of the baseline, "Large Kernel Matters" (GCN): the global convolution and the boundary refinement, figure 2."""

from torch import Tensor, nn
from torch.nn import functional as F

# Chosen: scales of the layers that write into the decoder's sums, small so that the first loss is near ln(classes): within 5 %
# where the encoder's maps have a root mean square of 10, which is more than any pretrained encoder's here.
_SCORE_SCALE = 0.02
_RESIDUAL_SCALE = 0.1


class GlobalConvolution(nn.Module):
    """A k x k receptive field from two separable branches, summed, with no nonlinearity inside.

    (k x 1, then 1 x k) + (1 x k, then k x 1). Without bias, as the parameter counts of GCN's table have it: 608,286 for
    k = 7 from 2048 to 21 channels.

    Shapes:
        input (B, channels, H, W); output (B, width, H, W).

    Raises:
        ValueError: if ``kernel`` is even: the output would not keep H and W.
    """

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel of a global convolution must be odd, got {kernel}")
        tall, flat = (kernel, 1), (1, kernel)
        self.tall_flat = nn.Sequential(_Line(channels, width, tall), _Line(width, width, flat, _SCORE_SCALE))
        self.flat_tall = nn.Sequential(_Line(channels, width, flat), _Line(width, width, tall, _SCORE_SCALE))

    def forward(self, maps: Tensor) -> Tensor:
        return self.tall_flat(maps) + self.flat_tall(maps)


class _Line(nn.Conv2d):
    """A convolution along one axis: (B, channels, H, W) -> (B, width, H, W); starts at ``scale`` times the input's size."""

    def __init__(self, channels: int, width: int, kernel: tuple[int, int], scale: float = 1.0) -> None:
        self.scale = scale
        super().__init__(channels, width, kernel, padding=(kernel[0] // 2, kernel[1] // 2), bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.scale * self.weight[0].numel() ** -0.5)


class BoundaryRefinement(nn.Module):
    """``x + conv3x3(relu(conv3x3(x)))``: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for convolution, scale in ((self.first, 2**0.5), (self.second, _RESIDUAL_SCALE)):
            nn.init.normal_(convolution.weight, std=scale * convolution.weight[0].numel() ** -0.5)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, scores: Tensor) -> Tensor:
        return scores + self.second(F.relu(self.first(scores)))
