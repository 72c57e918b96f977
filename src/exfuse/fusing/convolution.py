"""A convolution with what follows it: the addition of a second map, then an activation.

torch reorders a convolution's weights anew in every call, a quarter of ResNet50's time at 256x256, and passes over its result
again for the addition and the activation. oneDNN's operators, on which ``torch.compile`` builds too, do neither; only this file
calls them.
"""

from typing import Any

import torch
from torch import Tensor, nn


class FusedConvolution(nn.Module):
    """``activation(convolution(maps) + addend)`` in plain operators of torch, on any device and in any export.

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


class PackedConvolution(FusedConvolution):
    """A `FusedConvolution` in one operator, float32 on the CPU, for evaluation alone; its maps are channels-last.

    Which order of the weights is best depends on the input's size: they are packed at the first call with each new size,
    which costs what torch pays in every call.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__(convolution, activation)
        self._name, self._bounds = _pointwise(self.activation)
        self._packed: tuple[torch.Size, Tensor, torch.Size] | None = None  # the maps' shape, weights for it, the result's

    @staticmethod
    def fits(convolution: nn.Conv2d, activation: nn.Module | None = None) -> bool:
        """Whether this machine has such an operator for this convolution and activation."""
        return (
            hasattr(torch.ops.mkldnn, "_convolution_pointwise")
            and torch.backends.mkldnn.is_available()
            and type(convolution).forward is nn.Conv2d.forward  # not timm's, which pads by the input's size
            and convolution.padding_mode == "zeros"
            and not isinstance(convolution.padding, str)
            and (convolution.weight.device.type, convolution.weight.dtype) == ("cpu", torch.float32)
            and (activation is None or isinstance(activation, (nn.Identity, nn.ReLU, nn.ReLU6)))
        )

    def forward(self, maps: Tensor, addend: Tensor | None = None) -> Tensor:
        convolution = self.convolution
        if self._packed is None or self._packed[0] != maps.shape:
            self._packed = maps.shape, _pack(convolution, maps.shape), _shape_behind(convolution, maps.shape)
        _, weight, shape = self._packed
        if addend is not None and addend.shape != shape:  # torch spreads one over the other, oneDNN cuts it off
            return super().forward(maps, addend)
        geometry = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        if addend is None:
            return torch.ops.mkldnn._convolution_pointwise(
                maps, weight, convolution.bias, *geometry, self._name, self._bounds, ""
            )
        # behind an addition oneDNN's operator knows no activation but ReLU
        relu = "relu" if self._name == "relu" else None
        total = torch.ops.mkldnn._convolution_pointwise.binary(
            maps, addend, weight, convolution.bias, *geometry, "add", 1.0, relu, [], ""
        )
        return total if relu else self.activation(total)


def _pack(convolution: nn.Conv2d, shape: torch.Size) -> Tensor:
    plain = convolution.weight.detach().to_mkldnn()
    geometry: list[Any] = [convolution.padding, convolution.stride, convolution.dilation, convolution.groups]
    return torch._C._nn.mkldnn_reorder_conv2d_weight(plain, *geometry, list(shape))  # type: ignore[call-arg]


def _shape_behind(convolution: nn.Conv2d, shape: torch.Size) -> torch.Size:
    """Of a convolution's result, from its maps'."""
    assert not isinstance(convolution.padding, str)
    geometry = (convolution.padding, convolution.dilation, convolution.kernel_size, convolution.stride)
    of_each_side = zip(shape[2:], *geometry, strict=True)
    behind = [
        (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for side, padding, dilation, kernel, stride in of_each_side
    ]
    return torch.Size((shape[0], convolution.out_channels, *behind))


def _pointwise(activation: nn.Module) -> tuple[str, list[float]]:
    """oneDNN's name of an activation and its bounds."""
    if isinstance(activation, nn.ReLU6):
        return "hardtanh", [0.0, 6.0]
    return ("relu" if isinstance(activation, nn.ReLU) else "none"), []


def fastest(convolution: nn.Conv2d, activation: nn.Module | None) -> FusedConvolution:
    """The form for evaluation on this machine."""
    kind = PackedConvolution if PackedConvolution.fits(convolution, activation) else FusedConvolution
    return kind(convolution, activation)


def as_convolution(kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution by (O, I, k, k), k odd, that keeps H and W."""
    outputs, inputs, *_, side = kernel.shape
    convolution = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    convolution.weight, convolution.bias = nn.Parameter(kernel), nn.Parameter(bias)
    return convolution
