import copy
import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from exfuse.composition.segmentation import build_model
from exfuse.models.gcn import BoundaryRefinement
from exfuse.models.initialise import initialise
from tests.sharing import amount

CONF = Path(__file__).parents[2] / "conf"
CLASSES = 21
SIZE = (33, 45)  # odd, and no multiple of any stride

ABLATIONS = [f"+ablation={path.stem}" for path in sorted(CONF.glob("ablation/*.yaml"))]
OPTIONS = [f"technique/{path.parent.name}={path.stem}" for path in sorted(CONF.glob("technique/*/*.yaml"))]
DECODERS = [f"decoder={path.stem}" for path in sorted(CONF.glob("decoder/*.yaml"))]
TOGETHER = [
    "+ablation=exfuse_last backbone.output_stride=16",
    "+ablation=exfuse_last backbone.output_stride=8",
    "+ablation=exfuse_last decoder=levels_5",
    "technique/ss=second_conv_features technique/seb=concat technique/dap=last decoder=levels_345",
]
ALL_FIVE = ["+ablation=exfuse", "+ablation=exfuse_last"]  # the other ablations combine the same options
VARIANTS = [*amount(ALL_FIVE, ABLATIONS), *OPTIONS, *DECODERS, *TOGETHER]


@pytest.fixture(scope="module")
def initial(compose_config):
    """The model of a variant at its start, built once; do not change it."""
    known, built = {}, {}

    def model(overrides):
        if overrides not in known:
            config = compose_config("backbone=resnet_tiny", *overrides.split())
            known[overrides] = str((config.technique, config.backbone, config.decoder, config.seed))
            if known[overrides] not in built:
                built[known[overrides]] = build_model(config, CLASSES)
        return built[known[overrides]]  # one model for overrides that name the same variant

    return model


def batch(size=SIZE, images=2):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(images, 3, *size, generator=generator),
        torch.randint(CLASSES, (images, *size), generator=generator),
    )


def losses(model, image, truth):
    """Cross entropy of the scores and of every auxiliary output, enlarged to the truth's size."""
    prediction = model(image)
    assert prediction.scores.shape == (len(image), CLASSES, *image.shape[-2:])
    assert prediction.auxiliary.keys() == model.auxiliary_weights.keys()
    outputs = {"main": prediction.scores, **prediction.auxiliary}
    return {
        name: F.cross_entropy(F.interpolate(scores, truth.shape[-2:], mode="bilinear"), truth)
        for name, scores in outputs.items()
    }


def total(model, parts):
    return parts["main"] + sum(weight * parts[name] for name, weight in model.auxiliary_weights.items())


class FirstSteps(NamedTuple):
    """What the first steps of training show; parameters by name."""

    losses: dict[str, float]
    without_gradient: set[str]
    not_finite: set[str]
    never_moved: set[str]


def first_steps(model):
    image, truth = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    parameters = dict(model.named_parameters())
    shown = FirstSteps({}, set(), set(), set(parameters))
    for step in range(3):  # the last norm of timm's residual blocks starts at zero and hides what stands before it
        parts = losses(model, image, truth)
        if step == 0:
            shown.losses.update({name: loss.item() for name, loss in parts.items()})
        optimizer.zero_grad()
        total(model, parts).backward()
        for name, parameter in parameters.items():
            if parameter.grad is None:
                shown.without_gradient.add(name)
            elif not parameter.grad.isfinite().all():
                shown.not_finite.add(name)
            elif parameter.grad.count_nonzero():
                shown.never_moved.discard(name)
        optimizer.step()
    return shown


@pytest.fixture(scope="module")
def trained(initial):
    """The first steps of a variant's training, taken once."""
    taken = {}

    def shown(overrides):
        model = initial(overrides)
        if model not in taken:
            taken[model] = first_steps(copy.deepcopy(model).train())
        return taken[model]

    return shown


@pytest.mark.parametrize("overrides", VARIANTS)
def test_a_variant_starts_near_chance_and_every_parameter_learns(trained, overrides):
    steps = trained(overrides)
    assert steps.losses == {name: pytest.approx(math.log(CLASSES), rel=0.05) for name in steps.losses}
    assert "main" in steps.losses
    assert (steps.without_gradient, steps.not_finite, steps.never_moved) == (set(), set(), set())


@pytest.mark.parametrize("overrides", ["+ablation=seb_ecre_dap", "technique/ss=second_conv_features"])
@pytest.mark.parametrize("backbone", ["resnet50", "efficientnet_lite0"])
def test_wide_encoders_start_near_chance_too(compose_config, backbone, overrides):
    config = compose_config(f"backbone={backbone}", "backbone.init=random", overrides)
    model = build_model(config, CLASSES).train()
    with torch.no_grad():
        for name, loss in losses(model, *batch()).items():
            assert loss.item() == pytest.approx(math.log(CLASSES), rel=0.05), name


@pytest.mark.parametrize("size", [(97, 131), (33, 65), (64, 96), (1, 40)], ids=str)
def test_scores_have_the_images_size_whatever_it_is(initial, size):
    model = copy.deepcopy(initial("+ablation=exfuse_last")).eval()
    with torch.no_grad():
        prediction = model(batch(size)[0])
    assert prediction.scores.shape == (2, CLASSES, *size)
    assert prediction.scores.isfinite().all()
    assert prediction.auxiliary == {}


def test_an_images_scores_depend_neither_on_its_batch_nor_on_the_memory_layout(initial):
    model = copy.deepcopy(initial("+ablation=exfuse")).eval()
    image, _ = batch()
    with torch.no_grad():
        together = model(image).scores
        alone = torch.cat([model(one[None]).scores for one in image])
        model = model.to(memory_format=torch.channels_last)
        channels_last = model(image.contiguous(memory_format=torch.channels_last)).scores
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(channels_last, together, rtol=1e-4, atol=1e-5)


def test_what_variants_share_starts_from_the_same_weights(initial):
    first_seen, shared = {}, 0
    for overrides in VARIANTS:
        state = initial(overrides).state_dict()
        for name, value in state.items():
            if name.startswith("embedding.guides.") and name.endswith(".bias"):
                continue  # a constant, from which each way of fusing starts near the identity
            expected, origin = first_seen.setdefault((name, value.shape), (value, overrides))
            assert torch.equal(value, expected), f"{name} differs between {origin} and {overrides}"
            shared += origin != overrides
    assert shared > 1000


def test_variants_of_a_pair_share_all_but_what_tells_them_apart(initial):
    baseline = {name: value.shape for name, value in initial("+ablation=baseline").state_dict().items()}
    own = {
        "+ablation=seb": "embedding.",
        "+ablation=ecre": "decoder.upsamplings.0.",
        "technique/dap=last": "head.",
        "technique/ecre=deconv_supervised": "nothing",
    }
    for overrides, prefix in own.items():
        state = {name: value.shape for name, value in initial(overrides).state_dict().items()}
        assert {name for name in baseline if not name.startswith(prefix)} == {
            name for name in state if not name.startswith(prefix)
        }
        assert all(state[name] == baseline[name] for name in baseline if not name.startswith(prefix))


EVERYTHING = [
    "+ablation=exfuse_last",
    "technique/ss=second_conv_features technique/seb=concat",
    "backbone=efficientnet_lite0 backbone.init=random",
]


@pytest.mark.parametrize("overrides", EVERYTHING)
def test_no_weight_is_left_to_the_global_random_numbers(compose_config, overrides):
    config = compose_config(*overrides.split())
    states = []
    for state_before in (1, 2):
        torch.manual_seed(state_before)
        states.append(build_model(config, CLASSES).state_dict())
    assert states[0].keys() == states[1].keys()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


def test_initialising_leaves_the_global_random_numbers_alone(initial):
    model = copy.deepcopy(initial("+ablation=exfuse_last"))
    before = torch.get_rng_state()
    initialise(model, 0, "encoder.backbone")
    assert torch.equal(torch.get_rng_state(), before)


def test_initialising_again_gives_the_same_weights_whatever_training_did(initial):
    model = copy.deepcopy(initial("+ablation=seb_ecre"))
    convolutions = {name: one for name, one in model.named_modules() if isinstance(one, nn.Conv2d)}
    for convolution in convolutions.values():
        nn.init.constant_(convolution.weight, 7.0)
    initialise(model, 0, "encoder.backbone")
    for name, convolution in convolutions.items():
        assert torch.equal(convolution.weight, initial("+ablation=seb_ecre").get_submodule(name).weight), name


@pytest.mark.parametrize("overrides", EVERYTHING)
def test_another_seed_draws_other_weights(compose_config, overrides):
    one, other = (build_model(compose_config(*overrides.split(), f"seed={seed}"), CLASSES).state_dict() for seed in (0, 1))
    drawn = {name for name, value in one.items() if value.ndim == 4}
    # upsamplings start bilinear, DAP's last convolution as a copy and SEB's guides at zero, whatever the seed
    drawn -= {name for name in drawn if name.startswith(("decoder.upsamplings.", "head.widen.", "embedding.guides."))}
    assert len(drawn) > 30
    assert {name for name in one if not torch.equal(one[name], other[name])} >= drawn
    norms = {name for name, value in one.items() if name.endswith(("running_mean", "running_var")) and value.ndim}
    assert all(torch.equal(one[name], other[name]) for name in norms)


def test_modules_of_one_shape_start_differently(initial):
    refinements = [module for module in initial("+ablation=baseline").modules() if isinstance(module, BoundaryRefinement)]
    weights = [weight for module in refinements for weight in (module.first.weight, module.second.weight)]
    assert len(weights) == 18
    assert len({weight.detach().numpy().tobytes() for weight in weights}) == 18


def test_the_encoder_starts_by_he_with_timms_silent_last_norms(initial):
    encoder = initial("+ablation=baseline").encoder.backbone.features
    for name in ("layer3.0.conv2", "layer4.0.conv1", "layer4.0.conv2"):
        weight = encoder.get_submodule(name).weight
        expected = (2 / (weight.shape[0] * 9)) ** 0.5
        assert weight.std().item() == pytest.approx(expected, rel=0.03), name
    assert encoder.get_submodule("layer4.0.bn2").weight.count_nonzero() == 0
    assert (encoder.get_submodule("layer4.0.bn1").weight == 1).all()
