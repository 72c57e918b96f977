import pytest
import torch
from hypothesis import given, strategies as st
from torch.utils.flop_counter import FlopCounterMode

from exfuse.errors import ConfigError
from exfuse.models.backbone import Backbone
from exfuse.techniques.layer_rearrangement import rearranged, standard

DEPTHS = st.lists(st.integers(1, 100), min_size=4, max_size=4).map(tuple)
CLASSIFIER = 2048 * 1000 + 1000  # parameters of ResNeXt101's last layer, which an encoder lacks


def encoder(config, rearrange):
    """The encoder of a config on the meta device: shapes without numbers."""
    with torch.device("meta"):
        return Backbone(config.backbone.name, rearrange=rearrange, arguments=config.backbone.arguments)


def blocks(backbone):
    return tuple(len(backbone.features.get_submodule(f"layer{stage}")) for stage in range(1, 5))


def multiply_adds(backbone, side):
    """Multiply-adds of convolutions and matrix products for one image of side x side."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops() / 2


def parameters(backbone):
    return sum(parameter.numel() for parameter in backbone.parameters())


def test_resnext101_becomes_the_papers_layout():
    assert rearranged((3, 4, 23, 3)) == (8, 8, 9, 8)


@given(DEPTHS)
def test_blocks_are_moved_evenly_and_none_is_lost(depths):
    spread = rearranged(depths)
    assert len(spread) == 4
    assert sum(spread) == sum(depths)
    assert max(spread) - min(spread) <= 1
    assert spread[2] == max(spread)  # what does not divide by four stays in res-4 first
    assert rearranged(spread) == spread


@given(DEPTHS)
def test_standard_moves_nothing(depths):
    assert standard(depths) == depths
    assert standard(None) is None


def test_an_encoder_without_residual_stages_is_refused():
    with pytest.raises(ValueError, match="technique/lr=rearranged needs residual stages"):
        rearranged(None)


@pytest.mark.parametrize(
    ("option", "before", "after"),
    [("resnext101_32x4d", (3, 4, 23, 3), (8, 8, 9, 8)), ("resnet_tiny", (1, 1, 5, 1), (2, 2, 2, 2))],
)
def test_multiply_adds_blocks_channels_and_strides_stay_what_they_were(compose_config, option, before, after):
    # Exactly equal, no tolerance: the stem and each stage's first block, which alone differ in cost, stay where they are; all
    # other blocks cost the same in any stage, since widths double where areas fall to a quarter.
    config = compose_config(f"backbone={option}")
    usual, moved = encoder(config, standard), encoder(config, rearranged)
    assert (blocks(usual), blocks(moved)) == (before, after)
    assert multiply_adds(usual, 224) == multiply_adds(moved, 224)
    assert (usual.channels, usual.reductions) == (moved.channels, moved.reductions)
    if option == "resnext101_32x4d":
        assert multiply_adds(moved, 224) == pytest.approx(7.97e9, rel=1e-3)
        assert parameters(usual) + CLASSIFIER == pytest.approx(44.2e6, rel=1e-3)
        assert parameters(moved) + CLASSIFIER == pytest.approx(52.4e6, rel=1e-3)


def test_an_even_layout_keeps_its_public_weights(compose_config):
    config = compose_config("backbone=resnet_tiny", "backbone.arguments.layers=[2,2,2,2]")
    assert encoder(config, rearranged).arguments == config.backbone.arguments


def test_efficientnet_is_refused_by_name(compose_config):
    config = compose_config("backbone=efficientnet_lite0")
    assert encoder(config, standard).channels == (24, 40, 112, 320)
    with pytest.raises(ConfigError, match=r"tf_efficientnet_lite0.*technique/lr=rearranged"):
        encoder(config, rearranged)
