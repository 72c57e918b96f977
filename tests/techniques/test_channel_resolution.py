import copy
import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from exfuse.composition.segmentation import build_model
from exfuse.models.upsample import Deconvolution
from exfuse.techniques.channel_resolution import SubpixelConvolution, deconvolution, subpixel

OPTIONS = {"deconv": 0.0, "deconv_supervised": 0.4, "subpixel": 0.0, "subpixel_supervised": 0.4}


def at_its_start(upsampling):
    upsampling.reset_parameters()
    return upsampling.double()


def whole_numbers(*shape):
    """Scores on which sums of bilinear weights are exact in any order."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("size", [(5, 7), (2, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("scale", [1, 2])
def test_subpixel_starts_as_exactly_the_deconvolution_it_replaces(scale, size):
    scores = whole_numbers(2, 3, *size)
    replaced = at_its_start(Deconvolution(3, scale))(scores)
    assert replaced.shape == (2, 3, scale * size[0], scale * size[1])
    assert torch.equal(at_its_start(SubpixelConvolution(3, scale))(scores), replaced)


@pytest.mark.parametrize("upsampling", [Deconvolution, SubpixelConvolution])
def test_upsampling_starts_bilinear_off_the_border(upsampling):
    scores = whole_numbers(2, 3, 5, 7)
    bilinear = F.interpolate(scores, scale_factor=2, mode="bilinear")
    difference = (at_its_start(upsampling(3, 2))(scores) - bilinear).abs()
    assert difference[..., 1:-1, 1:-1].max() == 0
    assert difference.max() > 0  # the border: zeros outside, where interpolation repeats the outermost scores


@pytest.mark.parametrize("upsampling", [Deconvolution, SubpixelConvolution])
def test_upsampling_by_one_starts_as_the_identity(upsampling):
    scores = whole_numbers(2, 3, 5, 7)
    assert torch.equal(at_its_start(upsampling(3, 1))(scores), scores)


@pytest.mark.parametrize("upsampling", [Deconvolution, SubpixelConvolution])
@pytest.mark.parametrize("scale", [3, 4])
def test_other_scales_are_refused(upsampling, scale):
    with pytest.raises(ValueError, match=f"by 1 or 2, got {scale}"):
        at_its_start(upsampling(3, scale))


def test_sub_pixels_come_from_the_channels_row_by_row():
    channels, scale = 3, 2
    torch.manual_seed(0)
    upsampling = SubpixelConvolution(channels, scale).double()
    scores = torch.randn(2, channels, 4, 5, dtype=torch.float64)
    phases = F.conv2d(scores, upsampling.convolution.weight, upsampling.convolution.bias, padding=1)
    outcome = upsampling(scores)
    for c, i, j, r, s in itertools.product(range(channels), range(4), range(5), range(scale), range(scale)):
        expected = phases[:, c * scale**2 + r * scale + s, i, j]
        torch.testing.assert_close(outcome[:, c, scale * i + r, scale * j + s], expected)


@pytest.mark.parametrize("slot", [deconvolution, subpixel])
def test_a_negative_weight_is_refused(slot):
    with pytest.raises(ValueError, match=r"must not be negative, got -0\.1"):
        slot(channels=3, scale=2, auxiliary_weight=-0.1)


@pytest.fixture(scope="module")
def model_of(compose_config):
    """The model of an option of ECRE, built once, in evaluation mode; do not change it."""
    built = {}

    def model(option, dap="none"):
        if (option, dap) not in built:
            built[option, dap] = build_model(compose_config(f"technique/ecre={option}", f"technique/dap={dap}"), 5)
        return built[option, dap].eval()

    return model


def test_the_options_are_the_four_rows_of_table_4(model_of):
    first = {option: model_of(option).decoder.upsamplings[0] for option in OPTIONS}
    assert {option: slot.auxiliary_weight for option, slot in first.items()} == OPTIONS
    kinds = {option: type(slot.upsampling) for option, slot in first.items()}
    assert kinds == {
        "deconv": Deconvolution,
        "deconv_supervised": Deconvolution,
        "subpixel": SubpixelConvolution,
        "subpixel_supervised": SubpixelConvolution,
    }


@pytest.mark.parametrize("dap", ["none", "wide", "last"])
@pytest.mark.parametrize("option", OPTIONS)
def test_auxiliary_scores_exist_only_in_training_and_only_with_a_weight(model_of, option, dap):
    model, first = copy.deepcopy(model_of(option, dap)), []
    model.decoder.upsamplings[0].register_forward_hook(lambda *call: first.append(call[-1]))
    image = torch.randn(2, 3, 33, 49, generator=torch.Generator().manual_seed(0))
    assert model(image).auxiliary == {}
    auxiliary = model.train()(image).auxiliary
    if OPTIONS[option]:
        assert model.auxiliary_weights == {"ecre": OPTIONS[option]}
        # the first upsampling's own output, cut to res-4's size and read as class scores by the head
        res4 = math.ceil(33 / 16), math.ceil(49 / 16)
        expected = model.head.auxiliary(first[-1][..., : res4[0], : res4[1]])
        assert expected.shape == (2, 5, *res4)
        assert auxiliary.keys() == {"ecre"}
        torch.testing.assert_close(auxiliary["ecre"], expected)
    else:
        assert model.auxiliary_weights == auxiliary == {}


def test_only_the_first_upsampling_is_replaced_and_all_options_start_as_the_same_function(model_of):
    image = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    baseline = model_of("deconv")(image).scores
    assert baseline.std() > 0
    for option in OPTIONS:
        model = model_of(option)
        assert [type(later) for later in model.decoder.upsamplings[1:]] == 4 * [Deconvolution], option
        torch.testing.assert_close(model(image).scores, baseline)
