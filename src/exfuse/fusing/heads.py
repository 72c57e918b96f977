"""Heads that are linear: which convolution each of them is."""

from typing import NamedTuple

from torch import Tensor, nn

from exfuse.techniques.adjacent_controls import WideKernel
from exfuse.techniques.adjacent_prediction import AdjacentPrediction, WideControl


class Readout(NamedTuple):
    """A convolution that keeps H and W: its kernel (C, D, k, k), k odd, and its bias (C,)."""

    kernel: Tensor
    bias: Tensor


def readout_of(head: nn.Module) -> Readout | None:
    """The convolution that a head of a widened decoder's maps is; None for a head that is none."""
    if isinstance(head, AdjacentPrediction):
        kernel = head.readout / head.window**2
    elif isinstance(head, WideControl):
        kernel = head.readout[..., 1:-1, 1:-1] / head.groups  # a 1x1 kernel, held as 3x3
    elif isinstance(head, WideKernel):
        assert head.convolution.bias is not None
        return Readout(head.convolution.weight.detach(), head.convolution.bias.detach())
    else:
        return None
    return Readout(kernel, kernel.new_zeros(len(kernel)))
