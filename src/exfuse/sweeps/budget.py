"""What a study would cost on a GPU, estimated before anything is trained and without the data at hand."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from exfuse.composition.pretraining import build_classifier_model
from exfuse.composition.reading import is_supervised, plain, read_labelled_split, read_split
from exfuse.composition.segmentation import build_model
from exfuse.config.overrides import check_overrides
from exfuse.data.labelled import LabelledSplit
from exfuse.data.split import Split
from exfuse.files import CONFIG_DIR
from exfuse.runs.backbone_key import backbone_key
from exfuse.runs.plan import PRETRAINED
from exfuse.sweeps.roofline import Device, StepCost, count_step
from exfuse.sweeps.supervisor import row_name
from exfuse.tasks.classification import classification_losses
from exfuse.tasks.segmentation import training_loss

_COUNTED = 2  # images in the batch whose operations are counted: batch norms want more than one


@dataclass
class Training:
    """One line of a budget: the pretraining of a backbone, or a row of a study.

    Attributes:
        name: of the backbone or row.
        images: that pass through one run over all its epochs.
        cost: of its training step.
        parameters: while training.
        runs: how many there are; a row has one a seed.
    """

    name: str
    images: int
    cost: StepCost
    parameters: int
    runs: int = 0

    def hours(self, device: Device) -> float:
        """Of all its runs, one after the other."""
        return self.runs * self.images * self.cost.seconds(device) / 3600


@dataclass
class Budget:
    """What all runs with one encoder cost.

    Attributes:
        backbone: its option.
        data: name of the data set.
        recipe: what it trains by, in words.
        pretrainings: by key; rows and seeds share them.
        rows: of the study or multirun.
    """

    backbone: str
    data: str
    recipe: str
    pretrainings: dict[str, Training] = field(default_factory=dict)
    rows: dict[str, Training] = field(default_factory=dict)

    def trainings(self) -> list[Training]:
        return [*self.pretrainings.values(), *self.rows.values()]

    def hours(self, device: Device) -> float:
        """Of everything, one run after the other."""
        return sum(training.hours(device) for training in self.trainings())


def plan_budget(typed: Sequence[str], progress: Callable[[int, int], None]) -> list[Budget]:
    """Compose every job of a study or multirun and count the operations of its training step.

    Args:
        typed: overrides as ``exfuse train`` takes them, swept ones included.
        progress: told how many jobs of how many are counted.

    Returns:
        One budget a backbone, in the order of the jobs.

    Raises:
        ConfigError: if a model cannot be built, or an override is none.
        HydraException: if a job does not compose.
        DataError: if a config does not say how many images there are, and the data are not there either.
    """
    budgets: dict[str, Budget] = {}
    counted: dict[str, tuple[StepCost, int]] = {}
    jobs = _jobs(typed)
    for number, job in enumerate(jobs):
        progress(number, len(jobs))
        config = _compose(job)
        check_overrides(job, config, "train")
        chosen = {group.partition("@")[0]: str(option) for group, option in config.hydra.runtime.choices.items() if option}
        recipe = f"{chosen['recipe']}, {config.recipe.epochs} epochs, crops of {config.recipe.augmentation.crop} px"
        budget = budgets.setdefault(chosen["backbone"], Budget(chosen["backbone"], config.data.name, recipe))
        if config.backbone.init == PRETRAINED and config.init_from is None:
            key = backbone_key(config, {"start": ""})  # the data need not be there: they are the same for all
            if key not in budget.pretrainings:
                budget.pretrainings[key] = _plan_pretraining(config, chosen)
        model = _what_counts(config)
        if model not in counted:
            counted[model] = _count_segmentation(config)
        images, name = config.recipe.epochs * _train_images(config), row_name(job, chosen)
        budget.rows.setdefault(f"{name} {images} {model}", Training(name, images, *counted[model])).runs += 1
    progress(len(jobs), len(jobs))
    return list(budgets.values())


def _jobs(typed: Sequence[str]) -> list[list[str]]:
    """Overrides of each single run, as Hydra's own sweeper splits them; what is typed wins over the study's."""
    parser = OverridesParser.create()
    parsed = parser.parse_overrides(list(typed))
    fixed = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    swept = _compose(fixed).hydra.sweeper.params or {}
    named = {_key(override) for override in parsed}
    study = [f"{key}={value}" for key, value in swept.items() if key.lstrip("+") not in named]
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*study, *typed]), max_batch_size=None)
    return [list(job) for job in jobs]


def _key(override: Override) -> str:
    return str(override.key_or_group)


def _compose(overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def _plan_pretraining(config: DictConfig, chosen: dict[str, str]) -> Training:
    techniques = [*(["SS"] if is_supervised(config) else []), *(["LR"] if chosen["technique/lr"] != "standard" else [])]
    images, classes = _labelled_counts(config)
    pretraining = config.pretraining
    name = f"backbone {'+'.join(techniques) or 'plain'}, {pretraining.data.name}, {pretraining.recipe.epochs} epochs"
    return Training(name, pretraining.recipe.epochs * images, *_count_pretraining(config, classes), runs=1)


def _what_counts(config: DictConfig) -> str:
    """What decides the operations of one image's step."""
    parts: dict[str, Any] = {name: plain(config[name]) for name in ("technique", "decoder", "backbone")}
    return json.dumps([parts, config.recipe.augmentation.crop, len(config.data.classes)], sort_keys=True)


def _count_segmentation(config: DictConfig) -> tuple[StepCost, int]:
    model = build_model(config, len(config.data.classes)).to("meta").train()
    side = config.recipe.augmentation.crop
    image = torch.empty(_COUNTED, 3, side, side, device="meta")
    truth = torch.empty(_COUNTED, side, side, dtype=torch.uint8, device="meta")
    cost = count_step(lambda: training_loss(model(image), truth, model.auxiliary_weights)[0], _COUNTED)
    return cost, sum(weight.numel() for weight in model.parameters())


def _count_pretraining(config: DictConfig, classes: int) -> tuple[StepCost, int]:
    config.pretraining.start = "random"  # costs the same, and needs no file
    model = build_classifier_model(config, classes).to("meta").train()
    side = config.pretraining.recipe.augmentation.size
    image = torch.empty(_COUNTED, 3, side, side, device="meta")
    target = torch.empty(_COUNTED, dtype=torch.int64, device="meta")
    cost = count_step(lambda: torch.stack([*classification_losses(model(image), target, 0.0).values()]).sum(), _COUNTED)
    return cost, sum(weight.numel() for weight in model.parameters())


def _train_images(config: DictConfig) -> int:
    """As the config counts them, whether or not the data are there; else as they are read."""
    counts = {name: count for name, count in (config.data.get("counts") or {}).items() if name != "val"}
    united = "parts" in config.data.train
    if len(counts) == 1 and not united:
        return int(*counts.values())
    train: Split = read_split(config, "train")
    return len(train)


def _labelled_counts(config: DictConfig) -> tuple[int, int]:
    """Images and classes of the pretraining's data."""
    counts = config.pretraining.data.get("counts") or {}
    if {"train", "classes"} <= {*counts}:
        return counts["train"], counts["classes"]
    train: LabelledSplit = read_labelled_split(config, "train")
    return len(train), len(train.classes)
