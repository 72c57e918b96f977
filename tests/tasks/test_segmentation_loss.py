import pytest
import torch
from torch.nn import functional as F

from exfuse.errors import ConfigError
from exfuse.models.segmenter import Prediction
from exfuse.tasks.segmentation import segmentation_loss, training_loss


def by_pixel(scores, truth):
    """Cross entropy pixel by pixel; scores are enlarged first where they are smaller."""
    if scores.shape[-2:] != truth.shape[-2:]:
        scores = F.interpolate(scores, truth.shape[-2:], mode="bilinear")
    logarithms = scores - scores.exp().sum(1, keepdim=True).log()
    losses = [
        -logarithms[image, int(truth[image, row, col]), row, col] for image, row, col in (truth != 255).nonzero().tolist()
    ]
    return sum(losses) / max(1, len(losses))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("size", [(6, 7), (3, 4), (1, 1)], ids=str)
@pytest.mark.parametrize("classes", [2, 5, 16, 21])  # short rows of classes are summed as maps on a CPU
def test_loss_and_gradient_are_the_mean_over_labelled_pixels(classes, size, layout):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, classes, *size, generator=generator).contiguous(memory_format=layout).requires_grad_()
    truth = torch.randint(classes, (2, 6, 7), generator=generator).to(torch.uint8)
    truth[0, :2] = 255
    loss, expected = segmentation_loss(scores, truth), by_pixel(scores, truth)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, scores)[0], torch.autograd.grad(expected, scores)[0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("classes", [5, 21])
def test_a_float64_models_loss_and_gradient_are_exact(classes, layout):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, classes, 3, 4, generator=generator, dtype=torch.float64).contiguous(memory_format=layout)
    truth = torch.randint(classes, (2, 6, 7), generator=generator).to(torch.uint8)
    scores.requires_grad_()
    loss, expected = segmentation_loss(scores, truth), by_pixel(scores, truth)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    found, wanted = (torch.autograd.grad(value, scores)[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


def test_nothing_labelled_costs_nothing():
    scores = torch.randn(2, 5, 3, 3, requires_grad=True)
    loss = segmentation_loss(scores, torch.full((2, 3, 3), 255, dtype=torch.uint8))
    assert loss == 0
    assert torch.autograd.grad(loss, scores)[0].count_nonzero() == 0


@pytest.mark.parametrize("classes", [5, 21])
def test_half_precision_scores_are_summed_in_float32(classes):
    scores = torch.randn(2, classes, 40, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    scores = scores.contiguous(memory_format=torch.channels_last)
    truth = torch.zeros(2, 40, 40, dtype=torch.uint8)
    loss = segmentation_loss(scores, truth)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, segmentation_loss(scores.float(), truth))


@pytest.mark.parametrize(
    ("given", "told"),
    [(None, "NoneType"), (0.5, "float"), ({"loss": 1}, "dict"), (torch.ones(2, 3), r"a tensor of shape \(2, 3\)")],
)
def test_a_loss_that_gives_no_number_is_told_what_it_gave(given, told):
    prediction = Prediction(torch.zeros(1, 3, 4, 4), {})
    with pytest.raises(ConfigError, match=f"The loss gave {told} where one number is wanted"):
        training_loss(prediction, torch.zeros(1, 4, 4, dtype=torch.uint8), {}, lambda *_: given)
