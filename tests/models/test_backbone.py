import copy
import functools
import math
from pathlib import Path

import pytest
import torch

from exfuse.errors import ConfigError
from exfuse.models.backbone import Backbone
from exfuse.techniques.layer_rearrangement import rearranged

RESNET, TINY, LITE = (256, 512, 1024, 2048), (16, 32, 64, 128), (24, 40, 112, 320)
CHANNELS = {
    "resnet_tiny": TINY,
    "resnet_cpu": TINY,
    "resnet50": RESNET,
    "resnet101": RESNET,
    "resnext101_32x4d": RESNET,
    "resnext131_32x4d": RESNET,
    "efficientnet_lite0": LITE,
}
# all but the one that takes any model: of these see test_families.py
OPTIONS = sorted({path.stem for path in (Path(__file__).parents[2] / "conf" / "backbone").glob("*.yaml")} - {"timm"})
SIZES = ((97, 131), (64, 33))


@pytest.fixture(scope="module")
def encoder(compose_config):
    """Make the encoder of an option, by default on the meta device: shapes without numbers."""

    def make(option, device="meta", **choices):
        config = compose_config(f"backbone={option}").backbone
        with torch.device(device):
            return Backbone(config.name, arguments=config.arguments, **choices)

    return functools.cache(make)


def sizes_of(backbone, size, device="meta"):
    return [tuple(level.shape[1:]) for level in backbone(torch.zeros(2, 3, *size, device=device))]


@pytest.mark.parametrize("option", OPTIONS)
def test_levels_have_the_papers_strides_and_sizes_are_rounded_up(encoder, option):
    backbone = encoder(option)
    assert backbone.reductions == (4, 8, 16, 32)
    if option in CHANNELS:
        assert backbone.channels == CHANNELS[option]
    for height, width in SIZES:
        assert sizes_of(backbone, (height, width)) == [
            (channels, math.ceil(height / stride), math.ceil(width / stride))
            for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
        ]


def test_figure_2s_maps_for_an_image_of_512_by_512(encoder):
    maps = sizes_of(encoder("resnext101_32x4d"), (512, 512))
    assert maps == [(256, 128, 128), (512, 64, 64), (1024, 32, 32), (2048, 16, 16)]


@pytest.mark.parametrize("option", ["resnet_tiny", "efficientnet_lite0"])
@pytest.mark.parametrize(("output_stride", "strides"), [(16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))])
def test_dilation_keeps_sizes_and_leaves_the_parameters_as_they_were(encoder, option, output_stride, strides):
    usual, dilated = encoder(option), encoder(option, output_stride=output_stride)
    assert dilated.reductions == strides
    for height, width in SIZES:
        assert sizes_of(dilated, (height, width)) == [
            (channels, math.ceil(height / stride), math.ceil(width / stride))
            for channels, stride in zip(usual.channels, strides, strict=True)
        ]
    before, after = usual.state_dict(), dilated.state_dict()
    assert {key: value.shape for key, value in before.items()} == {key: value.shape for key, value in after.items()}


def test_a_dilated_encoder_differs_from_where_it_stops_halving(encoder):
    usual = copy.deepcopy(encoder("resnet_tiny", "cpu")).eval()
    dilated = copy.deepcopy(encoder("resnet_tiny", "cpu", output_stride=16)).eval()
    for module in usual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm's zeros would silence the residual branches
    dilated.load_state_dict(usual.state_dict())
    image = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    before, after = usual(image), dilated(image)
    assert all(torch.equal(*pair) for pair in zip(before[:3], after[:3], strict=True))
    assert after[3].shape[-2:] == after[2].shape[-2:]
    # at stride 16 the dilated stage holds, among others, the positions of the strided one
    torch.testing.assert_close(after[3][..., ::2, ::2], before[3])


@pytest.mark.parametrize("option", ["resnet_tiny", "efficientnet_lite0"])
def test_fewer_levels_are_the_same_maps_without_the_shallow_ones(encoder, option):
    every = copy.deepcopy(encoder(option, "cpu")).eval()
    image = torch.randn(1, 3, 33, 65, generator=torch.Generator().manual_seed(0))
    expected = every(image)
    for levels in ((2, 3, 4, 5), (3, 4, 5), (4, 5), (5,)):
        some = copy.deepcopy(encoder(option, "cpu", levels=levels)).eval()
        some.load_state_dict(every.state_dict(), strict=True)
        maps, number = some(image), len(levels)
        assert len(maps) == number
        assert all(torch.equal(*pair) for pair in zip(maps, expected[-number:], strict=True))
        assert some.channels == every.channels[-number:]
        assert some.reductions == every.reductions[-number:]


def test_resnext131_has_131_layers(encoder):
    features = encoder("resnext131_32x4d").features
    bottlenecks = [len(features.get_submodule(f"layer{stage}")) for stage in range(1, 5)]
    assert 3 * sum(bottlenecks) + 2 == 131  # the stem, three convolutions a block, the classifier


@pytest.mark.parametrize("levels", [(), (2, 3), (5, 4), (3, 5), (2, 3, 4), (1, 2, 3, 4, 5), (4, 5, 6)], ids=str)
def test_levels_must_be_consecutive_and_end_with_res5(levels):
    with pytest.raises(ConfigError, match=r"decoder\.levels=.*expected \[2,3,4,5\], \[3,4,5\], \[4,5\] or \[5\]"):
        Backbone("resnet18", levels=levels)


def test_an_unknown_model_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"backbone\.name=resnet_51: timm has no such model"):
        Backbone("resnet_51")


@pytest.mark.parametrize("output_stride", [0, 4, 31, 64])
def test_other_output_strides_are_refused(output_stride):
    with pytest.raises(ConfigError, match=rf"backbone\.output_stride={output_stride}: expected 32, 16 or 8"):
        Backbone("tf_efficientnet_lite0", output_stride=output_stride)


@pytest.mark.parametrize(
    ("name", "choices", "reason"),
    [
        ("vit_tiny_patch16_224", {}, r"has strides \(16, .*\); expected \(4, 8, 16, 32\)"),
        ("nest_tiny", {}, r"has strides \(4, 8, 16\); expected \(4, 8, 16, 32\)"),
        ("efficientformerv2_s0", {}, "has no maps that fit images of any size.* 224 x 224 pixels"),
        ("inception_v3", {}, "has no maps that fit images of any size"),
        ("convnext_atto", {"output_stride": 16, "arguments": {"kernel": 3}}, "timm cannot make it with features"),
        ("convnext_atto", {"rearrange": rearranged}, "needs residual stages of equal blocks"),
        ("ghostnet_050", {"output_stride": 16}, "dilation not supported"),
        ("resnet18", {"arguments": {"layerz": [1, 1, 1, 1]}}, "unexpected keyword argument 'layerz'"),
        ("resnet18", {"arguments": {"layers": [1, 1]}}, "timm cannot make it with features"),
    ],
)
def test_models_that_do_not_fit_are_refused_by_name(name, choices, reason):
    with pytest.raises(ConfigError, match=rf"backbone\.name={name}.*{reason}"), torch.device("meta"):
        Backbone(name, **choices)
