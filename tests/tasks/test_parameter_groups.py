from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from exfuse.composition.segmentation import build_model
from exfuse.config.options import build
from exfuse.store.description import RunDescription
from exfuse.tasks.optimised import parameter_groups

LR, FACTOR, DECAY = 0.2, 0.1, 5e-4

VARIANTS = sorted(f"+ablation={path.stem}" for path in (Path(__file__).parents[2] / "conf" / "ablation").glob("*.yaml"))


@pytest.fixture(params=[*VARIANTS, "technique/ss=second_conv_features", "backbone.output_stride=8"], scope="module")
def model(request, compose_config: Callable[..., RunDescription]) -> nn.Module:
    return build_model(compose_config("backbone=resnet_tiny", request.param), classes=4)


def settings_by_name(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Rate and decay of every parameter; a parameter that stands in two groups fails."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    settings: dict[str, tuple[float, float]] = {}
    for group in parameter_groups(model, LR, FACTOR, DECAY, "encoder.backbone"):
        for parameter in group["params"]:
            assert names[parameter] not in settings
            settings[names[parameter]] = (group["lr"], group["weight_decay"])
    return settings


def test_every_parameter_is_in_exactly_one_group(model):
    assert settings_by_name(model).keys() == {name for name, _ in model.named_parameters()}


def test_the_backbone_alone_learns_at_its_factor(model):
    """The branches that SS adds to the encoder start from random weights and learn at the full rate."""
    for name, (rate, _) in settings_by_name(model).items():
        assert rate == pytest.approx(LR * FACTOR if name.startswith("encoder.backbone.") else LR), name


def test_kernels_decay_and_norms_and_biases_do_not(model):
    settings = settings_by_name(model)
    kinds = set()
    for path, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            kernel = isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and name == "weight"
            assert settings[f"{path}.{name}"][1] == (DECAY if kernel else 0.0), f"{path}.{name}"
            kinds.add((kernel, path.startswith("encoder.backbone.")))
    assert len(kinds) == 4  # there were some of each, in the backbone and outside


def test_groups_are_named_and_none_is_empty(model):
    groups = {group["name"]: group for group in parameter_groups(model, LR, FACTOR, DECAY, "encoder.backbone")}
    assert groups.keys() == {"encoder", "encoder_no_decay", "decoder", "decoder_no_decay"}
    assert all(group["params"] for group in groups.values())


@pytest.mark.parametrize("recipe", ["small", "voc"])
def test_the_recipes_optimiser_takes_the_groups_as_they_are(compose_config, recipe):
    config = compose_config(f"recipe={recipe}")
    model = build_model(config, classes=4)
    optimizer = build("optimizer", config.recipe.optimizer)(
        parameter_groups(model, LR, FACTOR, DECAY, "encoder.backbone"), lr=LR
    )
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert {(group["name"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {
        ("encoder", LR * FACTOR, DECAY),
        ("encoder_no_decay", LR * FACTOR, 0.0),
        ("decoder", LR, DECAY),
        ("decoder_no_decay", LR, 0.0),
    }
