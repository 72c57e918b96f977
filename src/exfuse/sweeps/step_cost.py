"""What one training step costs: its operations and the bytes that they move, counted without doing them; and devices."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry


class Device(NamedTuple):
    """What a device sustains, not its data sheet's peak.

    Attributes:
        tflops: 10^12 floating-point operations a second, two a multiply-add.
        terabytes: 10^12 bytes a second from and to memory.
        element: bytes of a floating-point number: 2 in bfloat16, 4 in float32.
        kind: what it is.
    """

    tflops: float
    terabytes: float
    element: int = 2
    kind: str = "GPU"


FLOAT32 = 4  # bytes
GPU = Device(60.0, 1.2)  # chosen
# of an AMD EPYC by bytes of a number, in bfloat16 by the seven rows of experiments/table3_scenes, in float32 by an epoch
# of its baseline, ss_lr_seb and exfuse with trainer.precision=32-true
CPU_THREADS = {2: Device(0.13, 0.003, 2, "CPU thread"), FLOAT32: Device(0.1, 0.004, FLOAT32, "CPU thread")}


class Operation(NamedTuple):
    """One call of a kernel: floating-point operations, and the numbers that it reads and writes."""

    flops: int
    elements: int


class StepCost(NamedTuple):
    """The operations of a forward and backward pass over ``images`` images; the optimiser's, once a batch, are left out."""

    operations: list[Operation]
    images: int

    @property
    def gigaflops(self) -> float:
        """Of one image, forward and backward: convolutions and matrix products."""
        return sum(operation.flops for operation in self.operations) / self.images / 1e9

    @property
    def gigabytes(self) -> float:
        """Read and written for one image in float32, every operation by itself."""
        return 4 * sum(operation.elements for operation in self.operations) / self.images / 1e9

    def seconds(self, device: Device) -> float:
        """For one image: each operation takes as long as its arithmetic or its memory traffic, whichever is longer."""
        total = sum(
            max(operation.flops / device.tflops, device.element * operation.elements / device.terabytes)
            for operation in self.operations
        )
        return total / self.images / 1e12


def count_step(loss: Callable[[], Tensor], images: int) -> StepCost:
    """Count the operations by which ``loss`` and its gradients are computed.

    Args:
        loss: computes a scalar; with everything on torch's ``meta`` device no number is ever computed.
        images: how many the loss is over.
    """
    with _Recorder() as recorder:
        loss().backward()
    return StepCost(recorder.operations, images)


class _Recorder(TorchDispatchMode):
    """Writes down every operation that moves numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outcome = func(*args, **kwargs)
        if not func.is_view and "empty" not in func.overloadpacket.__name__:  # those move nothing
            tensors = [leaf for leaf in tree_leaves((args, kwargs, outcome)) if isinstance(leaf, torch.Tensor)]
            count = _COUNTS.get(func.overloadpacket)
            flops = count(*args, **kwargs, out_val=outcome) if count else 0
            self.operations.append(Operation(int(flops), sum(tensor.numel() for tensor in tensors)))
        return outcome


def _convolution_backward(
    gradient: Tensor, maps: Tensor, weight: Tensor, *settings: Any, out_val: Sequence[Tensor | None]
) -> int:
    """Either gradient takes the arithmetic of the forward pass; torch's own count takes grouped convolutions for whole ones."""
    forward = conv_flop_count(list(maps.shape), list(weight.shape), list(gradient.shape), transposed=settings[4])
    return int(forward) * sum(found is not None for found in out_val[:2])


_COUNTS = {**flop_registry, torch.ops.aten.convolution_backward: _convolution_backward}


def element_size(precision: str) -> int:
    """Of a number in the steps' maps."""
    return 2 if "16" in precision else FLOAT32
