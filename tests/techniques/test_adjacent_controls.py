import pytest
import torch
from torch.nn import functional as F

from exfuse.techniques.adjacent_controls import LargerKernel, LastBlockControl, WideKernel
from exfuse.techniques.adjacent_prediction import AdjacentPrediction, LastBlockPrediction, WideControl

WINDOWS = (1, 3, 5)


def ready(head):
    head = head.double()
    head.reset_parameters()
    return head


def scores_for(head, size=(6, 7)):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, head.decoder_channels, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(6, 7), (1, 3), (2, 2)], ids=str)
def test_the_larger_kernel_starts_as_daps_narrow_form_borders_included(window, size):
    kernel, dap = ready(LargerKernel(4, window)), ready(LastBlockPrediction(4, window))
    x = scores_for(kernel, size)
    torch.testing.assert_close(kernel(x), dap(x))
    assert kernel.auxiliary(x) is x


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(6, 7), (1, 3), (2, 2)], ids=str)
def test_the_wide_kernel_starts_as_dap_borders_included(window, size):
    kernel, dap = ready(WideKernel(4, window)), AdjacentPrediction(4, window)
    x = scores_for(kernel, size)
    torch.testing.assert_close(kernel(x), dap(x))
    torch.testing.assert_close(kernel.auxiliary(x), dap(x))
    assert {name for name, _ in kernel.named_parameters()} == {"convolution.weight", "convolution.bias"}


def test_the_larger_kernel_reaches_as_far_as_daps_narrow_form_and_no_farther():
    kernel, dap = LargerKernel(2, 3).double(), LastBlockPrediction(2, 3).double()
    for head in (kernel, dap):
        for parameter in head.parameters():
            torch.nn.init.uniform_(parameter, 0.5, 1.0)
        x = torch.zeros(1, 2, 9, 9, dtype=torch.float64, requires_grad=True)
        head(x)[0, 0, 4, 4].backward()
        rows, columns = x.grad[0, 0].nonzero().T
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 2, 6)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_narrow_control_is_a_convolution_and_an_unshifted_mean(window):
    head = ready(LastBlockControl(3, window))
    x = scores_for(head)
    torch.testing.assert_close(head(x), x)  # every group starts as a copy, and their mean is the scores
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wide = F.conv2d(x, head.widen.weight, head.widen.bias, padding=1)
    torch.testing.assert_close(head(x), WideControl(3, window)(wide))
    assert {name: p.shape for name, p in head.named_parameters()} == {
        name: p.shape for name, p in LastBlockPrediction(3, window).named_parameters()
    }


@pytest.mark.parametrize("option", [LargerKernel, WideKernel, LastBlockControl])
def test_an_even_window_is_refused(option):
    with pytest.raises(ValueError, match="got 2"):
        option(3, 2)
