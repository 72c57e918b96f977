import pytest
import torch
from torch.nn import functional as F

from exfuse.models.gcn import BoundaryRefinement, GlobalConvolution


@pytest.mark.parametrize("kernel", [1, 3, 7, 15])
def test_parameters_are_those_of_the_papers_table(kernel):
    parameters = sum(parameter.numel() for parameter in GlobalConvolution(2048, 21, kernel).parameters())
    assert parameters == 2 * kernel * 21 * (2048 + 21)
    assert kernel != 7 or parameters == 608_286


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_global_convolution_is_the_sum_of_its_two_branches(kernel):
    torch.manual_seed(0)
    block, maps = GlobalConvolution(5, 3, kernel).double(), torch.randn(2, 5, 6, 9, dtype=torch.float64)
    half = kernel // 2
    (tall, flat), (flat_first, tall_last) = block.tall_flat, block.flat_tall
    assert tall.weight.shape == (3, 5, kernel, 1)
    assert tall_last.weight.shape == (3, 3, kernel, 1)
    assert flat_first.weight.shape == (3, 5, 1, kernel)
    assert flat.weight.shape == (3, 3, 1, kernel)
    one = F.conv2d(F.conv2d(maps, tall.weight, padding=(half, 0)), flat.weight, padding=(0, half))
    other = F.conv2d(F.conv2d(maps, flat_first.weight, padding=(0, half)), tall_last.weight, padding=(half, 0))
    torch.testing.assert_close(block(maps), one + other)


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("branch", ["tall_flat", "flat_tall"])
def test_each_branch_sees_k_by_k_positions_and_no_more(branch, kernel):
    block = GlobalConvolution(2, 3, kernel)
    for parameter in block.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.0)  # positive, so that nothing cancels
    impulse = torch.zeros(1, 2, 21, 25)
    impulse[0, 1, 10, 12] = 1.0
    seen = block.get_submodule(branch)(impulse)[0] != 0
    expected = torch.zeros(21, 25, dtype=torch.bool)
    half = kernel // 2
    expected[10 - half : 11 + half, 12 - half : 13 + half] = True
    assert all(torch.equal(channel, expected) for channel in seen)


@pytest.mark.parametrize("kernel", [2, 14])
def test_an_even_kernel_is_refused(kernel):
    with pytest.raises(ValueError, match=f"must be odd, got {kernel}"):
        GlobalConvolution(4, 3, kernel)


def test_boundary_refinement_adds_two_convolutions_with_a_relu_between():
    torch.manual_seed(0)
    block, scores = BoundaryRefinement(4).double(), torch.randn(2, 4, 5, 8, dtype=torch.float64)
    hidden = F.conv2d(scores, block.first.weight, block.first.bias, padding=1)
    residual = F.conv2d(hidden * (hidden > 0), block.second.weight, block.second.bias, padding=1)
    torch.testing.assert_close(block(scores), scores + residual)
    assert block.first.weight.shape == block.second.weight.shape == (4, 4, 3, 3)


def test_scores_start_small_and_refinements_near_the_identity():
    torch.manual_seed(0)
    convolution, refinement = GlobalConvolution(64, 21, 7), BoundaryRefinement(21)
    refinement.reset_parameters()
    maps, scores = torch.randn(2, 64, 16, 16), torch.randn(2, 21, 16, 16)
    assert 0 < convolution(maps).std() < 0.1
    assert 0 < (refinement(scores) - scores).std() < 0.2
