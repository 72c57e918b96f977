"""Operations counted for a step against torch's own counter and against hand-made sums."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from exfuse.sweeps.step_cost import Device, Operation, StepCost, count_step


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, dilation=2, padding=2),
        nn.ConvTranspose2d(8, 4, 2, stride=2),
        nn.Flatten(),
        nn.Linear(4 * 32 * 32, 5),
    )


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_are_those_of_torchs_counter_forward_and_backward(device):
    model, image = net(), torch.randn(2, 3, 16, 16)
    with FlopCounterMode(display=False) as counter:
        model(image).sum().backward()
    model, image = net().to(device), image.to(device)
    cost = count_step(lambda: model(image).sum(), images=2)
    assert cost.gigaflops == pytest.approx(counter.get_total_flops() / 2 / 1e9)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, groups=4, padding=1),
        nn.Conv2d(8, 16, 3, groups=8, stride=2),  # a filter a channel
        nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2),
    ],
)
def test_either_gradient_of_a_grouped_convolution_takes_what_its_forward_pass_takes(layer):
    """Torch's own counter takes the weights' for that of a whole one."""
    image = torch.randn(2, 8, 16, 16, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(image)
    assert count_step(lambda: layer(image).sum(), images=2).gigaflops == pytest.approx(3 * counter.get_total_flops() / 2 / 1e9)


def test_traffic_is_what_every_operation_reads_and_writes():
    first, second = (torch.zeros(10, 10, device="meta", requires_grad=True) for _ in range(2))
    forward_only = count_step(lambda: (first.t() + second).sum(), images=1).operations
    # The addition reads 200 numbers and writes 100, the sum reads 100 and writes 1; transposing moves nothing.
    assert {300, 101} <= {operation.elements for operation in forward_only}
    assert all(operation.flops == 0 for operation in forward_only)


def test_each_operation_takes_its_arithmetic_or_its_traffic_whichever_is_longer():
    cost = StepCost([Operation(flops=4_000_000, elements=1), Operation(flops=0, elements=3_000_000)], images=2)
    device = Device(tflops=2e-6, terabytes=3e-6, element=2)  # 2 MFLOP/s, 3 MB/s
    assert cost.seconds(device) == pytest.approx((2.0 + 2.0) / 2)
    assert cost.gigabytes == pytest.approx(4 * 3_000_001 / 2 / 1e9)
