"""The techniques in networks that are not this project's."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import exfuse

MODULES = ("adjacent_prediction", "channel_resolution", "embedding_branch", "layer_rearrangement", "semantic_supervision")


@pytest.fixture(scope="module")
def smp():
    return pytest.importorskip("segmentation_models_pytorch", reason="the other networks are segmentation_models_pytorch's")


def trains(network: nn.Module, output: torch.Tensor, classes: int) -> None:
    """Every parameter that is in use gets a finite gradient."""
    truth = torch.randint(classes, (len(output), *output.shape[2:]))
    F.cross_entropy(output, truth).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("module", MODULES)
def test_the_docstrings_examples_run(module):
    result = doctest.testmod(importlib.import_module(f"exfuse.techniques.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("fast", [False, True])
def test_dap_is_the_head_of_a_unet(smp, fast):
    head = exfuse.AdjacentPrediction(classes=4)
    network = nn.Sequential(smp.Unet("resnet18", encoder_weights=None, classes=head.decoder_channels), head)
    image = torch.randn(2, 3, 64, 96)
    if fast:
        torch.testing.assert_close(exfuse.accelerate(network)(image), exfuse.AdjacentPrediction(4)(network[0](image)))
    scores = network(image)
    assert scores.shape == (2, 4, 64, 96)
    trains(network, scores, 4)


@pytest.mark.parametrize("option", ["ProductEmbedding", "SumEmbedding", "GateEmbedding", "ConcatEmbedding"])
def test_seb_stands_between_an_smp_encoder_and_its_decoder(smp, option):
    unet = smp.Unet("resnet18", encoder_weights=None, classes=4)
    levels = range(2, 6)
    embed = getattr(exfuse, option)(channels=unet.encoder.out_channels[2:], levels=levels)
    features = unet.encoder(torch.randn(2, 3, 64, 96))
    embedded = embed(features[2:])
    assert [each.shape for each in embedded] == [each.shape for each in features[2:]]
    scores = unet.segmentation_head(unet.decoder([*features[:2], *embedded]))
    trains(nn.ModuleList([unet, embed]), scores, 4)


def test_ecres_upsampling_alone_starts_as_bilinear_interpolation():
    maps = torch.randn(2, 5, 6, 7)
    upsampled = exfuse.SubpixelConvolution(channels=5)(maps)
    assert upsampled.shape == (2, 5, 12, 14)
    expected = F.interpolate(maps, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(upsampled[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_heads_start_as_documented_without_anybody_initialising_them():
    scores = torch.randn(2, 4, 6, 7)
    torch.testing.assert_close(exfuse.LastBlockPrediction(4)(scores), scores)
    torch.testing.assert_close(exfuse.LargerKernel(4)(scores), scores)


def test_lr_shapes_an_encoder_of_timm():
    timm = pytest.importorskip("timm")
    plain = timm.create_model("resnet18", features_only=True)
    moved = timm.create_model("resnet18", features_only=True, layers=exfuse.rearranged((1, 1, 5, 1)))
    assert [info["num_chs"] for info in moved.feature_info] == [info["num_chs"] for info in plain.feature_info]
    assert [len(moved[f"layer{stage}"]) for stage in range(1, 5)] == [2, 2, 2, 2]


@pytest.mark.parametrize("number", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_was_cast_before_is_accelerated_as_it_is(number: torch.dtype, training: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), exfuse.LastBlockPrediction(5)).to(number).train(training)
    image = torch.randn(2, 3, 9, 7).to(number)
    expected = network(image)
    bound = {"rtol": 2e-2, "atol": 2e-2} if number.itemsize == 2 else {}
    torch.testing.assert_close(exfuse.accelerate(network)(image), expected, **bound)


def test_a_network_on_another_device_is_accelerated_there() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), exfuse.LastBlockPrediction(5)).to("meta")
    assert exfuse.accelerate(network)(torch.empty(2, 3, 9, 7, device="meta")).device.type == "meta"


@pytest.mark.parametrize(
    "module",
    [
        *(getattr(exfuse, f"{name}Embedding")((4, 8), (2, 3)) for name in ("Product", "Sum", "Gate", "Concat")),
        exfuse.LastBlockPrediction(5),
        exfuse.AdjacentPrediction(5),
    ],
    ids=lambda module: type(module).__name__,
)
def test_an_accelerated_module_is_saved_and_read_as_a_whole(module: nn.Module, tmp_path: Path) -> None:
    network = exfuse.accelerate(nn.Sequential(module))
    torch.save(network, tmp_path / "network.pt")
    again = torch.load(tmp_path / "network.pt", weights_only=False)
    assert type(again[0]) is type(network[0])
