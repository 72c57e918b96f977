"""A convolution with what follows it: the addition of a second map, then an activation."""

from torch import Tensor, nn


class FusedConvolution(nn.Module):
    """``activation(convolution(maps) + addend)`` in plain operators of torch, on any device and in any export.

    `exfuse.fusing.packed` has the same in one operator of the CPU's library.

    Shapes:
        input (B, C, H, W) and, where one is given, an addend of the output's shape; output (B, D, H', W').
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution, self.activation = convolution, activation or nn.Identity()

    def forward(self, maps: Tensor, addend: Tensor | None = None) -> Tensor:
        result = self.convolution(maps)
        if addend is not None:
            result = result + addend
        return self.activation(result)
