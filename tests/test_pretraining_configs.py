"""Every file of conf/pretraining/ composes, and what it names can be built."""

import inspect
import itertools
from pathlib import Path

import pytest
import torch
from hydra.utils import get_method
from msgspec.structs import asdict

from exfuse.config.options import build, code_of
from exfuse.config.overrides import describe_backbone, describe_run
from exfuse.data.classification import ClassificationEvalTransform, ClassificationTrainTransform
from exfuse.models.weights import IMAGENET
from exfuse.runs.plan import find_backbone
from tests.sharing import amount

CONF = Path(__file__).parents[1] / "conf"


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


PAIRS = [*itertools.product(options("backbone"), options("pretraining"))]
ALIGNED = [*zip(options("backbone"), itertools.cycle(options("pretraining")))]  # each of either at least once
LARGE = [name for name in options("backbone") if name.startswith("resn") and not name.endswith(("tiny", "cpu"))]


@pytest.mark.parametrize("entry", ["train", "pretrain"])
@pytest.mark.parametrize(("backbone", "pretraining"), amount(ALIGNED, PAIRS))
def test_every_pretraining_goes_with_every_backbone(entry, backbone, pretraining):
    describe = describe_run if entry == "train" else describe_backbone
    named = ["backbone.name=convnext_tiny"] if backbone == "timm" else []  # it takes any model
    described = describe([f"backbone={backbone}", *named, f"pretraining={pretraining}"])
    own = describe([f"pretraining={pretraining}"])  # whatever the backbone would choose by itself
    assert described.pretraining.data == own.pretraining.data
    assert described.pretraining.recipe == own.pretraining.recipe


@pytest.mark.parametrize("backbone", LARGE)
def test_a_large_backbone_is_pretrained_on_imagenet(backbone):
    assert describe_run([f"backbone={backbone}"]).pretraining.data.settings["name"] == "ImageNet"


@pytest.mark.parametrize("name", options("pretraining/data"))
def test_a_data_config_gives_its_reader_just_the_arguments_that_it_takes(name):
    data = describe_backbone([f"pretraining/data={name}"]).pretraining.data
    for split in ("train", "val"):
        arguments = data.settings[split]
        inspect.signature(get_method(code_of("pretraining/data", name)[split]["_target_"])).bind(**arguments)


@pytest.mark.parametrize("name", options("pretraining/recipe"))
def test_a_recipe_can_be_built(name):
    recipe = describe_backbone([f"pretraining/recipe={name}"]).pretraining.recipe
    ClassificationTrainTransform(**asdict(recipe.augmentation), **asdict(IMAGENET))
    ClassificationEvalTransform(**asdict(recipe.evaluation), **asdict(IMAGENET))
    optimizer = build("optimizer", recipe.optimizer)([torch.nn.Parameter(torch.zeros(2))], lr=recipe.lr)
    build("schedule", recipe.schedule)(optimizer, steps=10)
    assert recipe.batch_size % 2 == 0  # mixing pairs the images of a batch


@pytest.mark.parametrize(
    "override",
    ["pretraining.recipe.val_every=1", "pretraining.recipe.evaluation.size=99", "trainer=ddp_cpu", "technique/dap=wide"],
)
def test_what_cannot_change_a_backbone_leaves_its_key(override):
    keys = []
    for overrides in ([], [override]):
        keys.append(find_backbone(describe_backbone(["backbone=resnet50", *overrides]))[0].key)
    assert keys[0] == keys[1]


def test_every_value_of_a_recipe_counts():
    def key(*overrides):
        wanted = describe_backbone(["backbone=resnet50", "technique/ss=heads_removed", *overrides])
        return find_backbone(wanted)[0].key

    changed = ["lr=3", "weight_decay=1", "epochs=3", "batch_size=4", "gradient_clip=1", "label_smoothing=0", "ema_decay=0.5"]
    changed += ["mixing.mixup=1", "augmentation.size=9", "schedule.warmup_share=0", "optimizer.momentum=0"]
    keys = [key(), *(key(f"pretraining.recipe.{override}") for override in changed)]
    keys += [key("pretraining.seed=1"), key("pretraining.start=timm"), key("pretraining.data.manifest=another")]
    keys += [key("pretraining.branches.hidden=9"), key("technique/lr=rearranged"), key("backbone=resnet101")]
    assert len(set(keys)) == len(keys)
