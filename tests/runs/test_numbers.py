"""What small runs compute, step by step: whoever changes it raises `exfuse.store.numbers_version` and pins the new losses."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch.utils.data import default_collate

from exfuse.composition.pretraining import build_classification_data, build_classification_task, build_classifier_model
from exfuse.composition.reading import read_labelled_split
from exfuse.composition.segmentation import build_data, build_model, build_task
from exfuse.config.overrides import describe_backbone
from exfuse.runs.backbones import resolve_normalisation
from exfuse.runs.plan import plan_run
from exfuse.store.description import RunDescription
from exfuse.store.numbers_version import NUMBERS_VERSION
from tests.small_runs import SMALL

BATCH, STEPS = 4, 3
# Of the numbers' version 2. Rounding differs between machines and versions of torch by some 1e-6.
LOSSES = {
    "baseline": [2.415064, 1.661923, 2.354799],
    "exfuse_last": [3.374919, 2.662429, 2.892546],
    "pretraining": [4.636781, 4.426661, 4.550096],
}


def losses(task: LightningModule, samples: Any) -> list[float]:
    """The first losses of a training, one optimiser step between two of them."""
    task.log = task.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]  # there is no Trainer
    optimizer, found = task.train().build_optimizer(), []  # type: ignore[operator]
    for step in range(STEPS):
        batch = default_collate([samples[0, step * BATCH + place] for place in range(BATCH)])
        torch.manual_seed(step)
        loss = task.training_step(batch, step)
        found.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


def check(name: str, found: Sequence[float]) -> None:
    assert NUMBERS_VERSION == 2, "pin the losses of the new version"
    assert found == pytest.approx(LOSSES[name], rel=1e-4), (
        f"The numbers of {name} have changed. If that is meant, raise NUMBERS_VERSION in exfuse/store/numbers_version.py with "
        "a line of history and one in the changelog, and pin these losses; every key changes with it."
    )


@pytest.mark.parametrize("name", ["baseline", "exfuse_last"])
def test_a_segmentation_starts_with_the_losses_that_it_had(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], name: str
) -> None:
    plan = plan_run(compose_config(*small_overrides, f"+ablation={name}"))
    run = resolve_normalisation(plan.run)
    data = build_data(run, plan.splits["train"], plan.splits["val"])
    check(name, losses(build_task(run, build_model(run, len(data.classes)), data.classes, 5), data.train_set))


def test_a_pretraining_starts_with_the_losses_that_it_had(scenes_folder) -> None:
    own = [word for word in SMALL if not word.startswith(("recipe.", "backbone."))]
    sizes = ("pretraining.data.minimum_side=4", "pretraining.recipe.augmentation.size=32")
    wanted = resolve_normalisation(describe_backbone([*own, *sizes, f"data.root={scenes_folder}", "+ablation=ss_lr"]))
    train, val = (read_labelled_split(wanted, split) for split in ("train", "val"))
    data = build_classification_data(wanted, train, val)
    task = build_classification_task(wanted, build_classifier_model(wanted, len(data.classes)), data.classes)
    check("pretraining", losses(task, data.train_set))
