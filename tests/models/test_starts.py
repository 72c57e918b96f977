"""Every technique that is inserted into a network, or replaces a part of one, starts near the network without it.

Measured as the relative change of what it puts out: rms(with - without) / rms(without), at most 0.1. Behind ImageNet weights of
EfficientNet-Lite0, behind a `resnet_tiny` that was pretrained here, and behind every shipped backbone with random weights whose
maps are rescaled to a root mean square of 0.1, 1, 3 and 10. ``python -m tests.models.test_starts`` prints what the options of
SEB change behind EfficientNet-Lite0 now, and what they changed as they started before.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.composition.segmentation import build_model
from exfuse.config import search_path
from exfuse.config.options import build
from exfuse.config.overrides import describe_run
from exfuse.models.segmenter import Segmenter
from exfuse.runs.backbones import choose_weights
from exfuse.store.description import RunDescription
from exfuse.techniques.embedding_branch import FusingEmbedding, GateEmbedding, ScaledConvolution, take_unscaled
from tests.extras import needs
from tests.sharing import amount

CONF = Path(__file__).parents[2] / "conf"
CLASSES, SIZE, MOST = 21, (65, 97), 0.1
BACKBONES = sorted({path.stem for path in (CONF / "backbone").glob("*.yaml")} - {"timm"})  # which is any model of timm's
SEB = sorted(path.stem for path in (CONF / "technique" / "seb").glob("*.yaml"))
ECRE = sorted(path.stem for path in (CONF / "technique" / "ecre").glob("*.yaml"))
# what stands for the head of a decoder as wide as the baseline's, and what stands for DAP's behind a widened one
NARROW = sorted(path.stem for path in (CONF / "technique" / "dap").glob("last*.yaml"))
WIDE = ["wide_kernel"]
SMALL = ["efficientnet_lite0", "resnet_tiny"]


def change(after: Tensor, before: Tensor) -> float:
    return float((after - before).square().mean().sqrt() / before.square().mean().sqrt())


def image() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def option(slot: str, name: str, **given: object) -> nn.Module:
    """An option of a slot as it starts in a model, from weights of its own."""
    group = f"technique/{slot}"
    made: nn.Module = build(group, search_path.as_written(group, name))(**given)
    return made


@torch.no_grad()
def started_as_before(embedding: FusingEmbedding) -> FusingEmbedding:
    """The same option as it started at first: random kernels of a tenth of the usual size, gates less open, no identity."""
    for name, module in embedding.named_modules():
        if not isinstance(module, ScaledConvolution):
            continue
        usual = nn.Conv2d(module.in_channels, module.out_channels, module.kernel_size, padding=module.padding)
        if name.startswith("guides."):
            nn.init.normal_(usual.weight, std=0.1 * module.scale)
            nn.init.constant_(usual.bias, 2.0 if isinstance(embedding, GateEmbedding) else embedding.neutral)
        before = {f"{name}.weight": usual.weight, f"{name}.bias": usual.bias}
        take_unscaled(embedding, before, "")
        module.load_state_dict({key.rpartition(".")[2]: value for key, value in before.items()})
    return embedding


@torch.no_grad()
def changes(model: Segmenter, maps: list[Tensor]) -> dict[str, float]:
    """The relative change that each option makes of what it puts out, with these maps of the encoder."""
    found = {}
    channels, levels = [level.shape[1] for level in maps], model.encoder.levels
    for name in SEB:
        embedded = option("seb", name, channels=channels, levels=levels)(maps)
        for level, after, before in zip(levels, embedded, maps, strict=True):
            found[f"seb={name} res{level}"] = change(after, before)
    entering = model.decoder.lateral["res5"](maps[-1])
    usual = model.decoder.upsamplings[0](entering)
    for name in ECRE:
        found[f"ecre={name}"] = change(option("ecre", name, channels=CLASSES, scale=2)(entering), usual)
    scores, _ = model.decoder(maps, SIZE)
    for name in NARROW:
        found[f"dap={name}"] = change(option("dap", name, classes=CLASSES)(scores), scores)
    groups = scores.repeat(1, 9, 1, 1) + 0.1 * scores.std() * torch.randn(scores.shape[0], 9 * CLASSES, *SIZE)
    for name in WIDE:
        wide = option("dap", "wide", classes=CLASSES)(groups)
        found[f"dap={name}"] = change(option("dap", name, classes=CLASSES)(groups), wide)
    return found


def check(model: Segmenter, maps: list[Tensor]) -> None:
    found = changes(model.eval(), maps)
    assert {name: value for name, value in found.items() if not value <= MOST} == {}
    assert max(found.values()) > 0  # something was measured: the gate's 5 %


@torch.no_grad()
def before_and_after(maps: list[Tensor]) -> dict[str, tuple[float, float]]:
    """By option of SEB, the relative change of res-2, which all guides reach: as it started at first, and as it does now."""
    found = {}
    for name in SEB:
        if isinstance(
            embedding := option("seb", name, channels=[each.shape[1] for each in maps], levels=(2, 3, 4, 5)), FusingEmbedding
        ):
            now = change(embedding(maps)[0], maps[0])
            torch.manual_seed(0)
            found[name] = change(started_as_before(embedding)(maps)[0], maps[0]), now
    return found


@needs("efficientnet")
@torch.no_grad()
def test_as_they_started_at_first_products_and_concatenations_were_other_networks(
    compose_config: Callable[..., RunDescription],
) -> None:
    """Why SEB's published studies were withdrawn."""
    found = before_and_after(
        build_model(compose_config("backbone=efficientnet_lite0"), CLASSES, "package").eval().encoder(image())
    )
    for name in ("product", "concat"):
        assert found[name][0] > 0.5
    assert all(now <= MOST for _, now in found.values())


@needs("efficientnet")
@torch.no_grad()
def test_behind_imagenets_weights(compose_config: Callable[..., RunDescription]) -> None:
    model = build_model(compose_config("backbone=efficientnet_lite0"), CLASSES, "package").eval()
    maps = model.encoder(image())
    assert max(float(level.square().mean().sqrt()) for level in maps) > 2  # these are the ones that broke the product
    check(model, maps)


@torch.no_grad()
@pytest.mark.usefixtures("forked")
def test_behind_a_backbone_that_was_pretrained_here(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], tmp_path: Path
) -> None:
    quick = ["pretraining.recipe.epochs=1", "pretraining.data.minimum_side=4", "pretraining.recipe.augmentation.size=32"]
    quick += ["pretraining.recipe.evaluation.size=32"]
    own = [word for word in small_overrides if not word.startswith("backbone.")]
    run = compose_config("backbone=resnet_tiny", *own, *quick, f"paths.backbones={tmp_path}")
    weights = choose_weights(run, Console(quiet=True))
    model = build_model(run, CLASSES, weights.init).eval()
    check(model, model.encoder(image()))


@pytest.mark.parametrize("backbone", amount(SMALL, BACKBONES))
@torch.no_grad()
def test_behind_random_weights_whatever_the_size_of_the_maps(
    compose_config: Callable[..., RunDescription], backbone: str
) -> None:
    model = build_model(compose_config(f"backbone={backbone}", "backbone.init=random"), CLASSES).eval()
    maps = model.encoder(image())
    for rms in (0.1, 1.0, 3.0, 10.0):
        check(model, [level * rms / level.square().mean().sqrt() for level in maps])


OTHERS = ["technique/lr=rearranged", "technique/ss=second_conv_features", "technique/dap=wide"]
CASES = [(backbone, other) for backbone in BACKBONES for other in OTHERS if (backbone, other) != (SMALL[0], OTHERS[0])]


@pytest.mark.parametrize(("backbone", "other"), amount([case for case in CASES if case[0] in SMALL], CASES), ids=str)
@torch.no_grad()
def test_other_networks_first_loss_is_near_that_of_guessing(
    compose_config: Callable[..., RunDescription], backbone: str, other: str
) -> None:
    """LR, SS's second convolution and DAP wide are other networks, whose first loss is to be near ln C."""
    model = build_model(compose_config(f"backbone={backbone}", "backbone.init=random", other), CLASSES).train()
    maps, truth = model.encoder(image()), torch.randint(CLASSES, (2, *SIZE), generator=torch.Generator().manual_seed(1))
    for rms in (None, 0.1, 1.0, 3.0, 10.0):
        scaled = maps if rms is None else [level * rms / level.square().mean().sqrt() for level in maps]
        scores = model.head(model.decoder(model.embedding(scaled), SIZE)[0])
        assert float(F.cross_entropy(scores, truth)) == pytest.approx(math.log(CLASSES), rel=0.05), rms


if __name__ == "__main__":
    with torch.no_grad():
        shown = build_model(describe_run(["backbone=efficientnet_lite0"]), CLASSES, "package").eval().encoder(image())
    for chosen, (first, now) in before_and_after(shown).items():
        print(f"{chosen}: {first:.2f} before, {now:.2f} now")
