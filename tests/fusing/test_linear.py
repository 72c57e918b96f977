import pytest
import torch
from torch import nn
from torch.nn import functional as F

from exfuse.fusing.linear import (
    carried_bias,
    compose,
    compose_after_deconvolution,
    convolution_to_phases,
    deconvolution_to_phases,
)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(("inner", "outer"), [(3, 3), (3, 1), (1, 3), (3, 5)])
def test_two_convolutions_are_one_without_padding(inner, outer):
    torch.manual_seed(0)
    first, second, bias, maps = random(4, 2, inner, inner), random(3, 4, outer, outer), random(4), random(2, 2, 9, 11)
    expected = F.conv2d(F.conv2d(maps, first, bias), second)
    composed = F.conv2d(maps, compose(first, second), carried_bias(bias, second))
    torch.testing.assert_close(composed, expected)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_a_deconvolution_and_a_convolution_are_one_deconvolution_inside(side):
    torch.manual_seed(0)
    kernel, second, maps, reach = random(2, 4, 4, 4), random(3, 4, side, side), random(1, 2, 7, 6), side // 2
    expected = F.conv2d(F.conv_transpose2d(maps, kernel, stride=2, padding=1), second)  # no padding: the inside alone
    composed = F.conv_transpose2d(maps, compose_after_deconvolution(kernel, second), stride=2, padding=1 + reach)
    inside = composed[..., reach : 14 - reach, reach : 12 - reach]
    torch.testing.assert_close(inside, expected)


@pytest.mark.parametrize(("side", "padding"), [(4, 1), (6, 2), (8, 3)])
def test_a_deconvolution_is_a_convolution_to_its_sub_pixels(side, padding):
    torch.manual_seed(0)
    kernel, maps = random(2, 3, side, side), random(2, 2, 5, 7)
    phases = deconvolution_to_phases(kernel, padding).permute(2, 0, 1, 3, 4, 5).flatten(0, 2)
    subpixel = nn.functional.pixel_shuffle(F.conv2d(maps, phases, padding=phases.shape[-1] // 2), 2)
    torch.testing.assert_close(subpixel, F.conv_transpose2d(maps, kernel, stride=2, padding=padding))


@pytest.mark.parametrize("side", [1, 3, 5, 7])
def test_a_convolution_is_one_between_sub_pixels(side):
    torch.manual_seed(0)
    kernel, maps = random(3, 2, side, side), random(2, 2, 8, 10)
    phases = convolution_to_phases(kernel)  # (2, 2, O, 2, 2, I, l, l)
    by_phase = F.pixel_unshuffle(maps, 2).unflatten(1, (2, 2, 2)).permute(0, 2, 3, 1, 4, 5).flatten(1, 3)
    weight = phases.permute(2, 0, 1, 3, 4, 5, 6, 7).flatten(3, 5).flatten(0, 2)
    subpixel = F.pixel_shuffle(F.conv2d(by_phase, weight, padding=weight.shape[-1] // 2), 2)
    torch.testing.assert_close(subpixel, F.conv2d(maps, kernel, padding=side // 2))
