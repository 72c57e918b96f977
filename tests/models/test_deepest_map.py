from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from exfuse.composition.segmentation import build_model
from exfuse.errors import ConfigError
from exfuse.models.deepest_map import AsppDecoder, PlainDecoder
from exfuse.techniques.channel_resolution import deconvolution, subpixel

CONF = Path(__file__).parents[2] / "conf"
ARCHITECTURES = sorted(path.stem for path in CONF.glob("architecture/*.yaml"))
PLAIN = partial(PlainDecoder, levels=[5], width=4, first_upsampling=partial(deconvolution, auxiliary_weight=0.0))
ASPP = partial(
    AsppDecoder,
    levels=[5],
    width=4,
    first_upsampling=partial(deconvolution, auxiliary_weight=0.0),
    rates_at_16=[6, 12, 18],
    hidden=256,
    dropout=0.0,
)


@pytest.mark.parametrize("make", [PLAIN, ASPP])
def test_scores_are_made_at_the_maps_size_and_enlarged_to_the_images(make):
    decoder = make(channels=[6], reductions=[16]).eval()
    scores, low = decoder([torch.randn(2, 6, 3, 5)], (33, 70))
    assert low.shape == (2, 4, 3, 5)
    assert scores.shape == (2, 4, 33, 70)
    torch.testing.assert_close(scores, F.interpolate(low, (33, 70), mode="bilinear", align_corners=False))


@pytest.mark.parametrize(("stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18))])
def test_aspp_is_deeplabv3s_head_with_its_dilations(stride, rates):
    """torchvision's own head with the same weights is the reference."""
    decoder = ASPP(channels=[8], reductions=[stride]).eval()
    reference = DeepLabHead(8, 4, rates).eval()
    assert [p.shape for p in decoder.parameters()] == [p.shape for p in reference.parameters()]
    reference.load_state_dict(dict(zip(reference.state_dict(), decoder.state_dict().values(), strict=True)))
    level = torch.randn(2, 8, 20, 18)
    torch.testing.assert_close(decoder([level], (40, 40))[1], reference(level))


def test_dropout_is_the_configs():
    decoder = AsppDecoder([5], [8], [16], 4, partial(deconvolution, auxiliary_weight=0.0), [6, 12, 18], 16, 0.25)
    assert [module.p for module in decoder.modules() if isinstance(module, nn.Dropout)] == [0.25]


def test_one_image_cannot_be_normalised_by_the_pyramid_and_that_is_said():
    with pytest.raises(ConfigError, match=r"recipe\.batch_size of at least two"):
        ASPP(channels=[8], reductions=[16]).train()([torch.randn(1, 8, 4, 4)], (64, 64))


def test_images_of_several_processes_are_normalised_together_where_they_are_synchronised(monkeypatch):
    decoder = ASPP(channels=[8], reductions=[16]).train()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match=r"at least two"):
        decoder([torch.randn(1, 8, 4, 4)], (64, 64))
    for name, module in [*decoder.named_modules()]:
        if type(module) is nn.BatchNorm2d:
            decoder.set_submodule(name, nn.Identity())
    assert decoder([torch.randn(1, 8, 4, 4)], (64, 64))[0].shape[2:] == (64, 64)


@pytest.mark.parametrize("first", [partial(subpixel, auxiliary_weight=0.0), partial(deconvolution, auxiliary_weight=0.4)])
def test_ecre_has_no_place_here_and_is_refused(first):
    with pytest.raises(ConfigError, match="technique/ecre=deconv"):
        PLAIN(channels=[6], reductions=[16], first_upsampling=first)


def test_more_levels_than_are_read_are_refused():
    with pytest.raises(ConfigError, match=r"expects \[5\]"):
        PLAIN(levels=[4, 5], channels=[6, 6], reductions=[16, 32])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_what_its_name_says(compose_config, name):
    config = compose_config(f"+architecture={name}", "backbone.init=random")
    stride = int(name.rpartition("_os")[2]) if "_os" in name else 32
    assert config.backbone.output_stride == stride
    assert build_model(config, 5).encoder.reductions[-1] == stride
    first, second = (CONF / "architecture" / f"{name}.yaml").read_text().splitlines()[:2]
    assert first == "# @package _global_"
    assert second.endswith(f"  exfuse train +architecture={name}")
