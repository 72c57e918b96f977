"""Trainings of every shipped recipe stay below the loss of guessing, whichever way SEB fuses.

Short enough for a CPU: the recipe's optimiser, rates, schedule and clipping, on small crops of the scenes in batches of at most
four. A mean over 50 steps of the main cross entropy must not lie above ln C once warm-up is over.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate

from exfuse.composition.segmentation import build_data, build_model, build_task
from exfuse.runs.backbones import resolve_normalisation
from exfuse.runs.plan import plan_run
from exfuse.store.description import RunDescription
from tests.extras import needs
from tests.sharing import amount

CONF = Path(__file__).parents[2] / "conf"
RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))
CONTINUED = {"voc_stage_2", "voc_stage_3"}  # from the model of the stage before
OPTIONS = [
    *(f"technique/seb={path.stem}" for path in sorted((CONF / "technique" / "seb").glob("*.yaml"))),
    "technique/dap=last",
    "technique/ecre=subpixel_supervised",
    "+ablation=seb_ecre_dap_last",
]
WINDOW, CROP, IMAGES = 50, 48, 16
STEPS = amount(50, 300)  # after warm-up
CASES = [("small", "technique/seb=product"), *((recipe, option) for recipe in RECIPES for option in OPTIONS)]


def window_means(run: RunDescription, weights: str, stages: list[RunDescription]) -> list[float]:
    """Mean main losses of each whole window of steps after warm-up, over the stages one after the other."""
    plan = plan_run(run)
    described = resolve_normalisation(plan.run)
    data = build_data(described, plan.splits["train"], plan.splits["val"])
    model, means = build_model(described, len(data.classes), weights), []
    for stage in stages:
        task = build_task(stage, model, data.classes, 1).train()
        parts: list[float] = []
        task.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
        task.log_dict = lambda values, to=parts, **_: to.append(float(values["train/loss_main"]))  # type: ignore[method-assign]
        warm_up = int(stage.recipe.schedule.settings.get("warmup_steps", 0))
        optimizer = task.build_optimizer()
        schedule = task.schedule_factory(optimizer, steps=warm_up + STEPS)
        batch_size = min(stage.recipe.batch_size, 4)
        for step in range(warm_up + STEPS):
            place = step * batch_size
            batch = default_collate([data.train_set[place // IMAGES, (place + one) % IMAGES] for one in range(batch_size)])
            loss = task.training_step(batch, step)
            optimizer.zero_grad()
            loss.backward()
            if stage.recipe.gradient_clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), stage.recipe.gradient_clip)
            optimizer.step()
            schedule.step()
        after = parts[warm_up:]
        means += [sum(after[start : start + WINDOW]) / WINDOW for start in range(0, len(after) - WINDOW + 1, WINDOW)]
    return [mean / math.log(len(data.classes)) for mean in means]


def describe(compose_config: Callable[..., RunDescription], overrides: list[str], recipe: str, *more: str) -> RunDescription:
    crop = [f"recipe.augmentation.crop={CROP}", "recipe.long_side=null", f"data.images.train={IMAGES}"]
    without = [word for word in overrides if not word.startswith(("recipe.", "data.images.train", "backbone."))]
    return compose_config(*without, f"recipe={recipe}", *crop, *more)


def check(means: list[float]) -> None:
    assert len(means) >= STEPS // WINDOW
    assert max(means) <= 1, means


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "option"), amount(CASES[:1], CASES[1:]))
def test_no_recipe_leaves_what_guessing_gives(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], recipe: str, option: str
) -> None:
    names = ["voc_stage_1", recipe] if recipe in CONTINUED else [recipe]
    stages = [describe(compose_config, small_overrides, name, "backbone.init=random", option) for name in names]
    check(window_means(stages[0], "random", stages))


@needs("efficientnet")
@pytest.mark.slow
@pytest.mark.parametrize("option", amount(["technique/seb=product"], OPTIONS))
def test_imagenets_weights_are_not_lost(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], option: str
) -> None:
    """At the rate of the studies whose product diverged."""
    run = describe(compose_config, small_overrides, "small", "backbone=efficientnet_lite0", "recipe.lr=2e-3", option)
    check(window_means(run, "package", [run]))
