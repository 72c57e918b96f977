"""Every file of conf/pretraining/ composes, and what it names can be built."""

import inspect
from pathlib import Path

import pytest
import torch
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

from exfuse.config.overrides import compose_config
from exfuse.data.classification_transforms import ClassificationEvalTransform, ClassificationTrainTransform
from exfuse.models.weights import IMAGENET
from exfuse.runs.backbone_key import find_folder

CONF = Path(__file__).parents[1] / "conf"


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("entry", ["train", "pretrain"])
@pytest.mark.parametrize("backbone", options("backbone"))
@pytest.mark.parametrize("pretraining", options("pretraining"))
def test_every_pretraining_goes_with_every_backbone(entry, backbone, pretraining):
    config = compose_config(entry, [f"backbone={backbone}", f"pretraining={pretraining}"])
    assert OmegaConf.to_container(config.pretraining, resolve=True, throw_on_missing=True)
    own = compose_config(entry, [f"pretraining={pretraining}"])  # whatever the backbone would choose by itself
    assert config.pretraining.data == own.pretraining.data
    assert config.pretraining.recipe == own.pretraining.recipe


@pytest.mark.parametrize("backbone", [name for name in options("backbone") if name.startswith("resn") and "tiny" not in name])
def test_a_large_backbone_is_pretrained_on_imagenet(backbone):
    assert compose_config("train", [f"backbone={backbone}"]).pretraining.data.name == "ImageNet"


@pytest.mark.parametrize("name", options("pretraining/data"))
def test_a_data_config_gives_its_reader_just_the_arguments_that_it_takes(name):
    config = compose_config("pretrain", [f"pretraining/data={name}"])
    for split in ("train", "val"):
        arguments = OmegaConf.to_container(config.pretraining.data[split], resolve=True, throw_on_missing=True)
        inspect.signature(get_method(arguments.pop("_target_"))).bind(**arguments)


@pytest.mark.parametrize("name", options("pretraining/recipe"))
def test_a_recipe_can_be_built(name):
    recipe = compose_config("pretrain", [f"pretraining/recipe={name}"]).pretraining.recipe
    ClassificationTrainTransform(**recipe.augmentation, **IMAGENET._asdict())
    ClassificationEvalTransform(**recipe.evaluation, **IMAGENET._asdict())
    optimizer = instantiate(recipe.optimizer)([torch.nn.Parameter(torch.zeros(2))], lr=recipe.lr)
    instantiate(recipe.schedule)(optimizer, steps=10)
    assert recipe.batch_size % 2 == 0  # mixing pairs the images of a batch


@pytest.mark.parametrize(
    "override",
    ["pretraining.recipe.val_every=1", "pretraining.recipe.evaluation.size=99", "trainer=ddp_cpu", "technique/dap=wide"],
)
def test_what_cannot_change_a_backbone_leaves_its_key(override):
    keys = []
    for overrides in ([], [override]):
        config = compose_config("pretrain", ["backbone=resnet50", *overrides])
        keys.append(find_folder(config)[0].key)
    assert keys[0] == keys[1]


def test_every_value_of_a_recipe_counts():
    def key(*overrides):
        config = compose_config("pretrain", ["backbone=resnet50", "technique/ss=heads_removed", *overrides])
        return find_folder(config)[0].key

    changed = ["lr=3", "weight_decay=1", "epochs=3", "batch_size=4", "gradient_clip=1", "label_smoothing=0", "ema_decay=0"]
    changed += ["mixing.mixup=1", "augmentation.size=9", "schedule.warmup_share=0", "optimizer.momentum=0"]
    keys = [key(), *(key(f"pretraining.recipe.{override}") for override in changed)]
    keys += [key("pretraining.seed=1"), key("pretraining.start=timm"), key("pretraining.data.manifest=another")]
    keys += [key("pretraining.branches.hidden=9"), key("technique/lr=rearranged"), key("backbone=resnet101")]
    assert len(set(keys)) == len(keys)
