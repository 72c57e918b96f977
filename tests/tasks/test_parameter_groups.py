from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from exfuse.composition.common import backbone_factory
from exfuse.composition.reading import technique_option
from exfuse.composition.segmentation import build_model
from exfuse.config.options import build
from exfuse.models.segmenter import build_segmenter
from exfuse.models.weights import IMAGENET, save_backbone_weights
from exfuse.store.description import RunDescription
from exfuse.tasks.optimised import parameter_groups
from exfuse.techniques.embedding_branch import NoEmbedding
from tests.extras import needs
from tests.sharing import amount

LR, FACTOR, DECAY = 0.2, 0.1, 5e-4

ABLATIONS = sorted(f"+ablation={path.stem}" for path in (Path(__file__).parents[2] / "conf" / "ablation").glob("*.yaml"))
NAMED = ("baseline", "lr", "ss", "ss_heads_removed", "ss_lr_ecre_seb_dap", "exfuse_last")  # each option in one of them
VARIANTS = amount([f"+ablation={name}" for name in NAMED], ABLATIONS)


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


def test_of_an_untrained_encoder_the_backbone_alone_learns_at_its_factor(model):
    """The branches that SS adds to the encoder start from random weights here and learn at the full rate."""
    for name, (rate, _) in settings_by_name(model).items():
        assert rate == pytest.approx(LR * FACTOR if name.startswith("encoder.backbone.") else LR), name


@pytest.fixture(scope="module")
def weights_with_branches(compose_config, tmp_path_factory) -> Path:
    """What a pretraining with SS leaves."""
    encoder = build_model(compose_config("technique/ss=second_conv_features", "seed=5"), classes=4).encoder
    path = tmp_path_factory.mktemp("pretrained") / "backbone.safetensors"
    save_backbone_weights(path, encoder.backbone, IMAGENET, encoder.branches.state_dict())
    return path


def at_the_encoders_rate(model: nn.Module) -> set[str]:
    return {name for name, (rate, _) in settings_by_name(model).items() if rate == pytest.approx(LR * FACTOR)}


@pytest.mark.parametrize("variant", [*VARIANTS, "technique/ss=second_conv_features decoder=levels_345"])
def test_whatever_was_pretrained_learns_at_the_encoders_rate(compose_config, weights_with_branches, variant):
    """Every form of SS: the branches that segmentation keeps were pretrained with the backbone."""
    overrides = [*variant.split(), "technique/lr=standard"]  # the weights are of a backbone without LR
    model, fresh = (
        build_model(compose_config(*overrides), 4, str(weights_with_branches)),
        build_model(compose_config(*overrides, "seed=7"), 4),
    )
    loaded = {
        name
        for (name, value), random in zip(model.named_parameters(), fresh.parameters(), strict=True)
        if name.startswith("encoder.") and not torch.equal(value, random)
    }
    assert at_the_encoders_rate(model) >= loaded
    assert at_the_encoders_rate(model) == {name for name, _ in model.named_parameters() if name.startswith("encoder.")}


@needs("efficientnet")
def test_branches_that_public_weights_do_not_have_learn_at_the_full_rate(compose_config):
    run = compose_config("backbone=efficientnet_lite0", "technique/ss=second_conv_features")
    model = build_model(run, 4, "package")
    assert at_the_encoders_rate(model) == {name for name, _ in model.named_parameters() if name.startswith("encoder.backbone.")}


class FromElsewhere(NoEmbedding):
    """A slot from outside that brings weights of its own."""

    pretrained_parts = ("projector",)

    def __init__(self, channels, levels):
        super().__init__(channels, levels)
        self.projector = nn.Conv2d(channels[-1], channels[-1], 1)
        self.fresh = nn.Conv2d(channels[-1], channels[-1], 1)
        nn.init.constant_(self.projector.weight, 7.0)


class Whole(nn.Module):
    """A head whose every weight another training left."""

    pretrained_parts = ("",)

    def __init__(self, classes):
        super().__init__()
        self.decoder_channels, self.layer = classes, nn.Conv2d(classes, classes, 1)
        nn.init.constant_(self.layer.weight, 3.0)

    def forward(self, maps):
        return self.layer(maps)


def test_a_slot_from_outside_keeps_and_slows_what_it_calls_pretrained(compose_config):
    run = compose_config()
    options = {name: technique_option(run.technique, name) for name in ("ss", "lr", "ecre")}
    model = build_segmenter(
        backbone_factory(run, 32), build("decoder", run.decoder), {**options, "seb": FromElsewhere, "dap": Whole}, 4, seed=0
    )
    assert (model.embedding.projector.weight == 7).all()
    assert (model.head.layer.weight == 3).all()
    slowed = {name for name in at_the_encoders_rate(model) if not name.startswith("encoder.backbone.")}
    assert slowed == {"embedding.projector.weight", "embedding.projector.bias", "head.layer.weight", "head.layer.bias"}


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
