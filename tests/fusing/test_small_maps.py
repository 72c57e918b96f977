import pytest
import torch
from torch import nn
from torch.nn import functional as F

from exfuse.fusing import small_maps
from exfuse.fusing.small_maps import convolve_each, patches
from exfuse.techniques.embedding_branch import ScaledConvolution


@pytest.fixture(params=["plain", "scaled"])
def convolutions(request):
    torch.manual_seed(0)
    make, more = (nn.Conv2d, {"padding": 1}) if request.param == "plain" else (ScaledConvolution, {"neutral": 1.0})
    found = nn.ModuleList(make(12, outputs, 3, **more) for outputs in (5, 7)).double()
    for parameter in found.parameters():
        nn.init.normal_(parameter)
    return found


@pytest.fixture
def few_channels_are_enough(monkeypatch):
    monkeypatch.setattr(small_maps, "_FEWEST_CHANNELS", 12)


def gradients(outcomes, maps, convolutions):
    total = sum((outcome * torch.linspace(-1, 1, outcome.numel()).view(outcome.shape)).sum() for outcome in outcomes)
    return torch.autograd.grad(total, [maps, *convolutions.parameters()])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("size", [(4, 5), (1, 3), (1, 1)], ids=str)
def test_products_have_values_and_gradients_of_the_convolutions(
    few_channels_are_enough, monkeypatch, convolutions, size, layout
):
    products = []
    monkeypatch.setattr(small_maps, "patches", lambda maps: products.append(1) or patches(maps))
    convolutions.to(memory_format=torch.channels_last)
    maps = torch.randn(2, 12, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    fast, plain = convolve_each(maps, list(convolutions)), [convolution(maps) for convolution in convolutions]
    assert products == [1]  # gathered once for both
    for outcome, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(outcome, expected)
    for ours, theirs in zip(gradients(fast, maps, convolutions), gradients(plain, maps, convolutions), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_patches_are_every_positions_neighbourhood():
    maps = torch.randn(2, 3, 4, 5)
    unfolded = F.unfold(maps, 3, padding=1).view(2, 3, 9, 20).permute(0, 3, 2, 1).reshape(40, 27)
    assert torch.equal(patches(maps), unfolded)


@pytest.mark.parametrize("why", ["evaluation", "large map", "contiguous weights"])
def test_elsewhere_the_convolutions_run_as_modules(few_channels_are_enough, monkeypatch, convolutions, why):
    if why != "contiguous weights":
        convolutions.to(memory_format=torch.channels_last)
    if why == "evaluation":
        convolutions.eval()
    called = []
    for convolution in convolutions:
        convolution.register_forward_hook(lambda *call: called.append(call[0]))
    side = 12 if why == "large map" else 3
    convolve_each(torch.randn(2, 12, side, side, dtype=torch.float64), list(convolutions))
    assert called == list(convolutions)
    assert convolve_each(torch.randn(2, 12, side, side, dtype=torch.float64), []) == []
