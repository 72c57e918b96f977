import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from exfuse.composition.segmentation import build_model
from exfuse.fusing.convolution import PackedConvolution
from exfuse.fusing.fuse import fuse
from exfuse.fusing.training import LastBlock, OpenDecoder
from tests.sharing import amount

CONF = Path(__file__).parents[2] / "conf"
CLASSES = 5

ABLATIONS = [f"+ablation={path.stem}" for path in sorted(CONF.glob("ablation/*.yaml"))]
ALL_FIVE = ["+ablation=exfuse", "+ablation=exfuse_last"]  # the other ablations combine the same options
OPTIONS = [f"technique/{path.parent.name}={path.stem}" for path in sorted(CONF.glob("technique/*/*.yaml"))]
DECODERS = [f"decoder={path.stem}" for path in sorted(CONF.glob("decoder/*.yaml"))]
HEADS = [option for option in OPTIONS if "/dap=" in option]
TOGETHER = [
    "+ablation=exfuse backbone.output_stride=8",
    "+ablation=exfuse decoder=levels_5",
    "technique/ss=second_conv_features technique/seb=concat technique/dap=last decoder=levels_345",
    "technique/seb=sum technique/ecre=subpixel technique/dap=wide_control decoder=levels_45 backbone.output_stride=16",
    "technique/dap=wide technique.dap.window=5",
    "technique/dap=last technique.dap.window=5",
    "technique/dap=wide technique.dap.window=1",
    "decoder=aspp backbone.output_stride=16 technique/dap=wide",
    "backbone=efficientnet_lite0 backbone.init=random technique/dap=last",
]
SIZES = [(65, 97), (33, 64), (64, 96)]
SMALL = [(1, 1), (2, 3), (3, 2), (1, 40), (34, 5), (37, 66)]  # every map down to a single row, all border


@pytest.fixture(scope="module")
def trained(compose_config):
    """A variant as a training might leave it: no weight, bias or statistic at its start. Do not change it."""
    known, built = {}, {}

    def model(overrides):
        if overrides not in known:
            config = compose_config("backbone=resnet_tiny", *overrides.split())
            known[overrides] = str((config.technique, config.backbone, config.decoder))
            if known[overrides] not in built:
                built[known[overrides]] = unsettled(build_model(config, CLASSES).eval())
        return built[known[overrides]]  # one model for overrides that name the same variant

    return model


@pytest.fixture(scope="module")
def agrees():
    """Whether a model and its fused form say the same at each size, calculated once for each model."""
    known = {}

    def at(model, sizes, portable=False):
        asked = (model, tuple(sizes), portable)
        if asked not in known:
            fused = fuse(model, portable)
            known[asked] = {size: difference(model, fused, size) < 1e-5 for size in sizes}
        return known[asked]

    return at


@torch.no_grad()
def unsettled(model):
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5, generator=generator)
            for tensor in (norm.running_var, norm.weight):
                tensor.uniform_(0.5, 1.5, generator=generator)
    for name, parameter in model.named_parameters():
        if not name.startswith("encoder.backbone"):
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def images(size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def difference(model, fused, size):
    """Of the scores, relative to the largest."""
    expected, got = model(images(size)), fused(images(size))
    assert got.scores.shape == expected.scores.shape
    assert got.auxiliary == {}
    return float((got.scores - expected.scores).abs().max() / expected.scores.abs().max())


@pytest.mark.parametrize("overrides", [*amount(ALL_FIVE, ABLATIONS), *OPTIONS, *DECODERS, *TOGETHER])
def test_a_fused_model_says_what_its_model_says(trained, agrees, overrides):
    # the forms differ in how a convolution is packed; make test looks at both where options meet
    forms = amount((False, True) if overrides in (*ALL_FIVE, *HEADS, *TOGETHER) else (False,), (False, True))
    for portable in forms:
        sizes = amount(SIZES[1:2] if portable else SIZES[:2], SIZES)
        assert agrees(trained(overrides), sizes, portable) == dict.fromkeys(sizes, True)


@pytest.mark.parametrize("overrides", [*HEADS, *TOGETHER])
def test_borders_are_exact_on_maps_that_are_nothing_else(trained, agrees, overrides):
    assert agrees(trained(overrides), SMALL) == dict.fromkeys(SMALL, True)


@pytest.mark.parametrize("overrides", ["+ablation=exfuse", "+ablation=exfuse_last"])
def test_fusing_leaves_the_model_as_it_is_and_shares_nothing_with_it(trained, overrides):
    model = copy.deepcopy(trained(overrides)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse(model)
    assert model.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not fused.training
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    with torch.inference_mode():
        expected = fused(images((40, 56))).scores
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(fused(images((40, 56))).scores, expected)


def test_the_folds_are_there(trained):
    for overrides in ("+ablation=exfuse", "+ablation=exfuse_last", "decoder=aspp backbone.output_stride=16"):
        fused = fuse(trained(overrides))
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
        assert any(isinstance(module, PackedConvolution) for module in fused.modules())
    assert isinstance(opened := fuse(trained("+ablation=exfuse")).decoder, OpenDecoder)
    assert opened.composes
    assert isinstance(last := fuse(trained("+ablation=exfuse_last")).head, LastBlock)
    assert last.composes


def test_a_portable_model_has_no_operator_of_one_library(trained):
    assert not any(isinstance(module, PackedConvolution) for module in fuse(trained("+ablation=exfuse"), True).modules())


@pytest.mark.parametrize("overrides", ["+ablation=exfuse_last", "+ablation=exfuse"])
def test_a_mask_does_not_change(trained, overrides):
    skimage = pytest.importorskip("skimage.data")
    image = torch.from_numpy(skimage.chelsea()[:129, :161].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        model = trained(overrides)
        assert torch.equal(model(image).scores.argmax(1), fuse(model)(image).scores.argmax(1))
