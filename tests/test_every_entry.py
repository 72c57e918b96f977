"""Every recipe, variant and entry point through its first steps in every number format, and float32 meaning float32 in each."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.trainer.connectors.accelerator_connector import _AcceleratorConnector
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from exfuse.benchmarks import running
from exfuse.cli.verbs import VERBS
from exfuse.composition.segmentation import build_data, build_model, build_task
from exfuse.config import search_path
from exfuse.config.overrides import describe_backbone
from exfuse.devices import allow_tf32
from exfuse.runs.backbones import resolve_normalisation
from exfuse.runs.fitting import build_trainer, fit
from exfuse.runs.plan import plan_run
from exfuse.runs.pretraining import pretrain
from exfuse.runs.step import TrainingStep
from exfuse.runs.training import train
from exfuse.store.description import RunDescription, to_plain
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import Outcome
from exfuse.store.record import RUNNING, Record
from exfuse.sweeps.collect import collect_study
from exfuse.sweeps.declared import DeclaredStudy
from tests.command import Command
from tests.described import changed
from tests.sharing import amount, make_once
from tests.small_runs import only_run

Describe = Callable[..., RunDescription]
_STEPS = 2
FORMATS = ["32-true", "bf16-mixed"]
EVERY_FORMAT = [*FORMATS, "16-mixed"]
# Two steps of two images each, whatever the recipe's own batch and crop are.
TWO_STEPS = (
    *("debug.images=4", "recipe.epochs=1", "recipe.batch_size=2", "recipe.augmentation.crop=64"),
    *("recipe.long_side=null", "trainer.num_sanity_val_steps=0"),
)


def options(group: str) -> list[str]:
    return sorted(search_path.options(group))


def in_turn(recipes: list[str]) -> list[tuple[str, str]]:
    """Every recipe and every format, as few of their pairs as hold them all, and the first recipe with each."""
    few = [(recipe, EVERY_FORMAT[number % len(EVERY_FORMAT)]) for number, recipe in enumerate(recipes)]
    few += [(recipes[0], name) for name in EVERY_FORMAT[1:]]
    return amount(few, [(recipe, name) for recipe in recipes for name in EVERY_FORMAT])


def two_steps(run: RunDescription, folder: Path) -> list[float]:
    """Train as `exfuse train` does, without its end; the norm of what each step changed."""
    plan = plan_run(changed(run, "paths.runs", str(folder)))
    run = resolve_normalisation(plan.run)
    data = build_data(run, plan.splits["train"], plan.splits["val"])
    task = build_task(run, build_model(run, len(data.classes)), data.classes, len(data.val_set))
    origin = Record(key=plan.folder.key, status=RUNNING, label="x", config=to_plain(run))
    trainer = build_trainer(run, plan.folder, origin, "train", monitor="val/miou")
    moved: list[float] = []
    state = [weight.detach().clone() for weight in task.parameters()]

    def note(*_: Any) -> None:
        now = [weight.detach().clone() for weight in task.parameters()]
        moved.append(float(sum((one - other).square().sum() for one, other in zip(now, state, strict=True)) ** 0.5))
        state[:] = now

    task.on_train_batch_end = note  # type: ignore[method-assign, assignment]
    fit(trainer, task, data, plan.folder)
    assert all(weight.isfinite().all() for weight in task.state_dict().values())
    return moved


@pytest.fixture
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every format that a recipe may meet; float16 as on a GPU: by itself Lightning takes bfloat16 on CPUs."""
    if request.param == "16-mixed":
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=16.0))
        monkeypatch.setattr(_AcceleratorConnector, "_check_and_init_precision", lambda _: plugin)
    return request.param


@pytest.mark.parametrize(("recipe", "precision"), in_turn(options("recipe")), indirect=["precision"])
def test_every_recipe_trains_in_every_format(
    recipe: str, precision: str, compose_config: Describe, small_overrides: list[str], tmp_path: Path
) -> None:
    run = compose_config(*small_overrides, f"recipe={recipe}", f"trainer.precision={precision}", *TWO_STEPS)
    moved = two_steps(run, tmp_path)
    assert len(moved) == _STEPS
    assert max(moved) > 0  # a float16 step may be skipped, and the rate rises from near 0


NAMED = [f"+{group}={name}" for group in ("ablation", "architecture") for name in options(group)]


@pytest.mark.parametrize("precision", FORMATS, indirect=True)
@pytest.mark.parametrize("named", amount(["+ablation=exfuse"], NAMED))
def test_a_variant_trains_in_both_formats(
    named: str, precision: str, compose_config: Describe, small_overrides: list[str], tmp_path: Path
) -> None:
    run = compose_config(*small_overrides, named, f"trainer.precision={precision}", *TWO_STEPS)
    assert min(two_steps(run, tmp_path)) > 0


def together() -> list[str]:
    """Every option of every technique and every decoder of levels, as few variants as hold them all."""
    groups = {f"technique/{slot}": options(f"technique/{slot}") for slot in options("slot")}
    groups["decoder"] = [name for name in options("decoder") if name.startswith("levels")]
    most = max(map(len, groups.values()))
    return [" ".join(f"{group}={names[number % len(names)]}" for group, names in groups.items()) for number in range(most)]


OTHERS = [name for name in NAMED if name.startswith("+architecture")]  # ablations are of options that stand together above


@pytest.mark.parametrize("chosen", [*amount(["+ablation=baseline", "+ablation=exfuse", *OTHERS], NAMED), *together()])
def test_every_variant_takes_two_steps_in_both_formats(
    chosen: str, compose_config: Describe, small_overrides: list[str]
) -> None:
    """Of its losses, clipping and optimiser, without Lightning's loop; weights go on from one format to the other."""
    run = compose_config(*small_overrides, *chosen.split(), *TWO_STEPS, "backbone.normalisation=null")
    task = build_task(run, build_model(run, 4), ["a", "b", "c", "d"], 4)
    for precision in FORMATS:
        step = TrainingStep(task, changed(run, "trainer.precision", precision), 2)
        for _ in range(_STEPS):
            before = [weight.detach().clone() for weight in task.parameters()]
            step()
            assert any(not torch.equal(weight, old) for weight, old in zip(task.parameters(), before, strict=True))
            for name, weight in task.named_parameters():
                assert weight.grad is not None, f"{name} learns nothing"
                assert weight.grad.isfinite().all(), name
                assert weight.isfinite().all(), name


@pytest.mark.parametrize(("recipe", "precision"), in_turn(options("pretraining/recipe")), indirect=["precision"])
def test_every_pretraining_recipe_trains_in_every_format(
    recipe: str, precision: str, small_overrides: list[str], tmp_path: Path
) -> None:
    own = [word for word in small_overrides if not word.startswith(("recipe.", "backbone."))]
    short = ("augmentation.size=32", "evaluation.size=32", "epochs=1", "val_every=1", "batch_size=8")
    images = ("pretraining.data.minimum_side=4", "debug.images=16", *(f"pretraining.recipe.{word}" for word in short))
    chosen = (f"pretraining/recipe={recipe}", f"trainer.precision={precision}", "+ablation=ss_lr")
    pretrain(describe_backbone([*own, *images, *chosen, f"paths.backbones={tmp_path}"]))
    folder = only_run(tmp_path)
    record = folder.record()
    assert record is not None
    assert record.done
    assert record.backbone.precision == precision
    kept = torch.load(folder.last, weights_only=True)
    assert kept["global_step"] == _STEPS
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.fixture
def seen() -> Iterator[list[tuple[bool, bool]]]:
    """Of every layer: whether it was part of a training step, and whether anything there allowed TensorFloat-32."""
    found: list[tuple[bool, bool]] = []

    def note(module: nn.Module, _: Any) -> None:
        tf32 = torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != "highest"
        found.append((module.training and torch.is_grad_enabled(), tf32))

    allow_tf32(True)  # as another part of the process, or torch itself, may have left it
    handle = register_module_forward_pre_hook(note)
    yield found
    handle.remove()
    allow_tf32(False)


def test_a_training_takes_the_format_that_was_asked_for_and_is_scored_in_float32(train_small, seen) -> None:
    train_small("runtime.tf32=true")
    assert {*seen} >= {(True, True), (False, False)}  # validation during the training is part of it
    assert (True, False) not in seen
    assert seen[-1] == (False, False)


@pytest.fixture(scope="module", params=amount(["bf16-mixed"], FORMATS))  # in float32 every verb has tests of its own
def trained(
    request: pytest.FixtureRequest, compose_config: Describe, small_overrides: list[str], tmp_path_factory
) -> tuple[RunFolder, Path]:
    chosen = (*small_overrides, "+ablation=seb_ecre", f"trainer.precision={request.param}")
    folder = make_once(
        tmp_path_factory, f"every_entry_{request.param}", lambda folder: run_and_study(folder, compose_config, chosen)
    )
    return only_run(folder / "runs"), folder / "study"


def run_and_study(folder: Path, compose_config: Describe, overrides: Sequence[str]) -> None:
    """Train, into ``runs``, and collect a ``study`` that it is the only run of."""
    train(compose_config(*overrides, f"paths.runs={folder / 'runs'}"))
    run = only_run(folder / "runs")
    record = run.record()
    assert record is not None
    outcome = Outcome(0, [], record.title, record.seed, record.choices)
    outcome.store, outcome.key, outcome.status = str(run.root), run.key, "done"
    collect_study([outcome], DeclaredStudy(name="one", title="One"), "exfuse train", False, folder / "study")


def words(verb: str, run: RunFolder, study: Path, scratch: Path, small_overrides: list[str]) -> list[object]:
    """How a verb is called."""
    out = scratch / "out"
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(scratch / "photo.jpg")
    match verb:
        case "evaluate":
            return [run.path, f"output={out}", "workers=0"]
        case "predict":
            return [run.path, scratch / "photo.jpg", f"output={out}"]
        case "export":
            return [run.path, "format=torch", "size=[64,64]", f"output={scratch / 'model.pt2'}"]
        case "compare":
            return [run.path, f"picture={scratch / 'picture.png'}", "images=1"]
        case "runs rescore":
            shutil.copytree(run.path, scratch / run.key)
            return [scratch / run.key, "workers=0"]
        case "report page":
            return [study, f"output={out}", f"runs={run.root}", "examples=publish", "images=1"]
        case "report features":
            return [run.path, f"output={out}", "statistics.images=1"]
        case "report probe":
            return [run.path, f"output={out}", "train_images=4", "test_images=2"]
        case "report costs":
            shutil.copytree(study, scratch / "study")
            return [scratch / "study", "rounds=1", "repeats=1", "batch_size=2", "size=64"]
        case "submission make":
            (scratch / "ImageSets" / "Segmentation").mkdir(parents=True)
            (scratch / "ImageSets" / "Segmentation" / "test.txt").write_text("a\n")
            (scratch / "JPEGImages").mkdir()
            shutil.copy(scratch / "photo.jpg", scratch / "JPEGImages" / "a.jpg")
            record = run.record()
            assert record is not None
            classes = ",".join(record.classes)
            return [
                *(run.path, f"archive={scratch / 'a.tar.gz'}", f"data.root={scratch}"),
                *("count=1", f"data.classes=[{classes}]"),
            ]
        case "train":
            return [*small_overrides, "recipe.epochs=1", f"paths.runs={out}"]
        case "pretrain":
            sizes = [
                "pretraining.data.minimum_side=4",
                "pretraining.recipe.augmentation.size=32",
                "pretraining.recipe.epochs=1",
            ]
            own = [word for word in small_overrides if not word.startswith(("recipe.", "backbone."))]
            return [*own, *sizes, "pretraining.recipe.batch_size=4", f"paths.backbones={out}"]
    raise AssertionError(f"exfuse {verb} calculates: say here how it is called in a test")


ELSEWHERE = {
    "study vary": "trains as exfuse train does",
    "budget": "counts operations without numbers",
    "bench": "below",
    "runs log": "sends what was calculated",
    "report tensorboard": "likewise",
}


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS if verb.torch and verb.name not in ELSEWHERE])
@pytest.mark.usefixtures("forked")
def test_every_verb_calculates_in_float32_that_is_float32(
    verb: str, trained, seen, command: Command, small_overrides: list[str], tmp_path: Path
) -> None:
    run, study = trained
    status, said, told = command(*verb.split(), *words(verb, run, study, tmp_path, small_overrides))
    assert status == 0, said + told
    assert seen, "nothing was calculated"
    assert not any(tf32 for _, tf32 in seen)


def test_a_benchmark_measures_what_it_names(seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own process, whatever torch allows there by itself."""

    def measure(device: str, progress: Any) -> list[Any]:
        progress("a convolution")
        nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2, device=device))
        return []

    monkeypatch.setattr(running.importlib, "import_module", lambda _: SimpleNamespace(measure=measure))
    running._measure("stand_in", "cpu")
    assert seen == [(True, False)]
