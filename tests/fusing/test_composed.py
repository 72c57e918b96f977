import itertools

import pytest
import torch
from torch.nn import functional as F

from exfuse.fusing.composed import convolve_twice, convolve_upsampled, frame_of_upsampled, with_edges

MAPS = ((5, 7), (8, 6), (2, 1), (1, 4), (1, 1))
LAYOUTS = [torch.contiguous_format, torch.channels_last]
INPUTS, BETWEEN, OUTPUTS = 3, 6, 2


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype).requires_grad_()


def assert_same_function(outcome, expected, inputs, **tolerance):
    torch.testing.assert_close(outcome, expected, **tolerance)
    weights = numbers(*outcome.shape, seed=9, dtype=outcome.dtype).detach()
    for fast, plain in zip(
        torch.autograd.grad(outcome, inputs, weights), torch.autograd.grad(expected, inputs, weights), strict=True
    ):
        torch.testing.assert_close(fast, plain, **tolerance)


def one_after_the_other(maps, weight, bias, second):
    return F.conv2d(F.conv2d(maps, weight, bias, padding=1), second, padding=1)


def upsampled(maps, weight, bias, second, second_bias, size):
    """The composed form as the decoder calls it."""
    whole, edges = with_edges(maps)
    outside = frame_of_upsampled(edges, maps.shape[2:], weight, bias, size)
    return convolve_upsampled(whole, weight, bias, outside, second, second_bias, size)


def upsampled_plainly(maps, weight, bias, second, second_bias, size):
    enlarged = F.conv_transpose2d(maps, weight, bias, stride=2, padding=1)
    return F.conv2d(enlarged[..., : size[0], : size[1]], second, second_bias, padding=1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("size", MAPS, ids=str)
def test_two_convolutions_compose_values_gradients_and_border(size, layout):
    maps = numbers(2, INPUTS, *size).detach().contiguous(memory_format=layout).requires_grad_()
    layers = numbers(BETWEEN, INPUTS, 3, 3, seed=1), numbers(BETWEEN, seed=2), numbers(OUTPUTS, BETWEEN, 3, 3, seed=3)
    assert_same_function(convolve_twice(maps, *layers), one_after_the_other(maps, *layers), (maps, *layers))


@pytest.mark.parametrize("cut", list(itertools.product((0, 1), (0, 1))), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("inner", MAPS, ids=str)
def test_convolution_of_a_cut_deconvolution_composes_values_gradients_and_border(inner, layout, cut):
    size = tuple(2 * side - less for side, less in zip(inner, cut, strict=True))
    maps = numbers(2, INPUTS, *inner).detach().contiguous(memory_format=layout).requires_grad_()
    layers = (
        numbers(INPUTS, BETWEEN, 4, 4, seed=1),
        numbers(BETWEEN, seed=2),
        numbers(OUTPUTS, BETWEEN, 3, 3, seed=3),
        numbers(OUTPUTS, seed=4),
    )
    assert_same_function(upsampled(maps, *layers, size), upsampled_plainly(maps, *layers, size), (maps, *layers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_composing_costs_no_more_than_the_formats_rounding(dtype):
    exact = numbers(2, INPUTS, 9, 12), numbers(BETWEEN, INPUTS, 3, 3, seed=1), numbers(BETWEEN, seed=2)
    exact = *exact, numbers(OUTPUTS, BETWEEN, 3, 3, seed=3)
    rounded = [tensor.detach().to(dtype) for tensor in exact]
    truth = one_after_the_other(*(tensor.double() for tensor in rounded))
    composed, plain = convolve_twice(*rounded), one_after_the_other(*rounded)
    assert composed.dtype == dtype
    # both round two times on the way
    assert (composed.double() - truth).square().mean().sqrt() < 2 * (plain.double() - truth).square().mean().sqrt()


def spoil_free_memory():
    """What is allocated next holds NaN where nobody writes."""
    del [torch.full((2**power // 4,), torch.nan) for power in range(8, 22) for _ in range(8)][:]


@pytest.mark.parametrize("under_autocast", [False, True])
@pytest.mark.parametrize("inner", [(16, 16), (32, 5), (4, 1)], ids=str)
def test_gradients_in_bfloat16_read_no_memory_that_nobody_wrote(inner, under_autocast):
    # as oneDNN's of a deconvolution do on processors with AMX, of maps one position wide with an odd number of channels
    channels = 21
    exact = [numbers(2, channels, *inner), numbers(channels, channels, 4, 4, seed=1), numbers(channels, seed=2)]
    exact += [numbers(5, channels, 3, 3, seed=3), numbers(5, seed=4)]
    dtype = torch.float32 if under_autocast else torch.bfloat16
    layout = torch.channels_last
    rounded = [one.detach().to(dtype) for one in exact]
    rounded = [(one.contiguous(memory_format=layout) if one.dim() == 4 else one).requires_grad_() for one in rounded]
    size = (2 * inner[0], 2 * inner[1])
    weights = numbers(2, 5, *size, seed=9).detach()
    truth = torch.autograd.grad(upsampled_plainly(*exact, size), exact, weights)
    for _ in range(3):
        spoil_free_memory()
        with torch.autocast("cpu", torch.bfloat16, enabled=under_autocast):
            outcome = upsampled(*rounded, size)
        spoil_free_memory()
        for found, expected in zip(torch.autograd.grad(outcome, rounded, weights.to(outcome.dtype)), truth, strict=True):
            assert (found.double() - expected).norm() < 0.03 * expected.norm()


def test_the_border_needs_its_correction():
    maps, weight, bias = numbers(1, INPUTS, 6, 7), numbers(BETWEEN, INPUTS, 3, 3, seed=1), numbers(BETWEEN, seed=2)
    second = numbers(OUTPUTS, BETWEEN, 3, 3, seed=3)
    kernel = F.conv_transpose2d(second, weight)
    uncorrected = F.conv2d(maps, kernel, (second.sum((2, 3)) * bias).sum(1), padding=2)
    difference = (uncorrected - one_after_the_other(maps, weight, bias, second)).abs().amax((0, 1))
    assert difference[1:-1, 1:-1].max() < 1e-10
    assert difference[0].min() > 1e-3
    assert difference[:, -1].min() > 1e-3


def test_edges_are_the_maps_own_and_their_gradients_add_up():
    maps = numbers(2, 3, 4, 5)
    whole, edges = with_edges(maps * 1.0)
    expected = maps[:, :, :1], maps[:, :, -1:], maps[..., :1], maps[..., -1:]
    for edge, border in zip(edges, expected, strict=True):
        torch.testing.assert_close(edge, border)
    fast = torch.autograd.grad((whole * 1.0).sum() + sum((2.0 + n) * edge.sum() for n, edge in enumerate(edges)), maps)[0]
    plain = torch.autograd.grad(maps.sum() + sum((2.0 + n) * border.sum() for n, border in enumerate(expected)), maps)[0]
    torch.testing.assert_close(fast, plain)
