"""Trainings on a CUDA GPU: every option in every number format, layouts, compiled, fused, resumed, on several processes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from exfuse.composition.segmentation import build_model, build_task
from exfuse.config import search_path
from exfuse.config.overrides import describe_run
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.peak import segmentation_peak
from exfuse.runs.step import TrainingStep
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from exfuse.store.variants import names
from exfuse.tasks.segmentation import SegmentationTask
from tests.conftest import REPOSITORY
from tests.gpu.conftest import DRY, TrainThere
from tests.small_runs import only_run

ABLATIONS = sorted(search_path.options("ablation"))
OPTIONS = {name: sorted(search_path.options(f"technique/{name}")) for name in names()}
# so many variants that every option of every technique is in one
MIXTURES = [
    [f"technique/{name}={found[number % len(found)]}" for name, found in OPTIONS.items()]
    for number in range(max(map(len, OPTIONS.values())))
]
FORMATS = ["32-true", "bf16-mixed"] if DRY else ["32-true", "bf16-mixed", "16-mixed"]
SHORT = ("recipe.epochs=1", "debug.images=8")


def record_of(run: RunFolder) -> Record:
    record = run.record()
    assert record is not None
    assert record.done, record.why
    return record


def weights_of(run: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(run.last, weights_only=True, map_location="cpu")["state_dict"]


def check_training(run: RunFolder, precision: str, device: torch.device) -> None:
    record = record_of(run)
    assert record.config["trainer"]["precision"] == precision
    assert record.environment is not None
    there = device.type == "cuda"
    assert record.environment.cuda == (torch.version.cuda if there else None)
    assert not there or record.environment.device == torch.cuda.get_device_name(device)
    assert all(value.isfinite().all() for value in weights_of(run).values())


@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize("options", MIXTURES, ids=lambda options: ",".join(word.partition("=")[2] for word in options))
def test_every_option_trains_in_every_format(
    train_there: TrainThere, options: list[str], precision: str, device: torch.device
) -> None:
    check_training(train_there(*options, f"trainer.precision={precision}", *SHORT), precision, device)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_variant_trains(train_there: TrainThere, ablation: str, device: torch.device) -> None:
    check_training(train_there(f"+ablation={ablation}", "trainer.precision=bf16-mixed", *SHORT), "bf16-mixed", device)


@pytest.mark.parametrize("recipe", sorted(search_path.options("recipe")))
def test_every_recipe_trains(train_there: TrainThere, recipe: str, device: torch.device) -> None:
    sizes = ("recipe.batch_size=4", "recipe.augmentation.crop=64", "recipe.val_every=1")
    run = train_there(f"recipe={recipe}", "trainer.precision=bf16-mixed", *sizes, *SHORT)
    check_training(run, "bf16-mixed", device)


@pytest.mark.parametrize(
    ("ablation", "layout"),
    [("baseline", "auto"), ("exfuse", "true"), ("exfuse", "false"), ("exfuse", "auto"), ("exfuse_last", "auto")],
)
def test_every_layout_trains_and_scores_alike(train_there: TrainThere, ablation: str, layout: str) -> None:
    run = train_there(f"+ablation={ablation}", f"runtime.channels_last={layout}", "trainer.precision=bf16-mixed", *SHORT)
    content = torch.load(run.last, weights_only=True, map_location="cpu")
    chosen = content["description"]["channels_last"]
    assert layout == "auto" or chosen is (layout == "true")
    kernel = load_checkpoint(run.path)[0].encoder.get_submodule("backbone").state_dict()["features.layer1.0.conv1.weight"]
    assert kernel.is_contiguous(memory_format=torch.channels_last if chosen else torch.contiguous_format)


@pytest.mark.parametrize("composed", ["true", "false"])
def test_layers_composed_and_one_after_another_learn_alike(train_there: TrainThere, composed: str, tmp_path: Path) -> None:
    """In float32, over a few steps: they are one function."""
    shared = ("+ablation=exfuse", "trainer.precision=32-true", "runtime.channels_last=true", *SHORT)
    usual = weights_of(train_there(*shared, runs=tmp_path / "usual"))
    other = weights_of(train_there(*shared, f"runtime.composed={composed}", runs=tmp_path / "other"))
    for name, value in usual.items():
        if value.is_floating_point():
            torch.testing.assert_close(other[name], value, rtol=1e-2, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("ablation", "precision"), [("exfuse", "32-true"), ("exfuse", "bf16-mixed"), ("exfuse_last", "bf16-mixed")]
)
def test_compiled_models_train(train_there: TrainThere, ablation: str, precision: str) -> None:
    """By Inductor, with Triton on a GPU."""
    run = train_there(f"+ablation={ablation}", f"trainer.precision={precision}", "runtime.compile=true", *SHORT)
    assert all(value.isfinite().all() for value in weights_of(run).values())
    assert not any("_orig_mod" in name for name in weights_of(run))


@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fused_optimisers_clip_and_step_as_plain_ones_do(
    train_there: TrainThere, optimizer: str, precision: str, tmp_path: Path
) -> None:
    momentum = ["+recipe.optimizer.momentum=0.9"] if optimizer == "sgd" else []
    shared = [f"optimizer@recipe.optimizer={optimizer}", *momentum, f"trainer.precision={precision}", "recipe.lr=1e-3"]
    shared += ["recipe.gradient_clip=0.1", "runtime.channels_last=true", "recipe.epochs=1", "debug.images=4"]  # one step
    fused = weights_of(train_there(*shared, "+recipe.optimizer.fused=true", runs=tmp_path / "fused"))
    plain = weights_of(train_there(*shared, "+recipe.optimizer.fused=false", runs=tmp_path / "plain"))
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("precision", FORMATS)
def test_an_interrupted_run_ends_with_the_bits_of_one_that_was_not(
    train_there: TrainThere, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where kernels are deterministic; the layout that was measured is kept too."""
    shared = ("+ablation=seb_ecre", f"trainer.precision={precision}", "trainer.deterministic=warn", "recipe.epochs=3")
    whole = weights_of(train_there(*shared, runs=tmp_path / "whole"))
    end = SegmentationTask.on_validation_epoch_end

    def stop(task: SegmentationTask) -> None:
        end(task)
        if task.current_epoch == 1 and not task.trainer.sanity_checking:
            raise KeyboardInterrupt

    monkeypatch.setattr(SegmentationTask, "on_validation_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        train_there(*shared, runs=tmp_path / "stopped")
    monkeypatch.undo()
    resumed = weights_of(train_there(*shared, runs=tmp_path / "stopped"))
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def _command(small_overrides: list[str], runs: Path, *overrides: str) -> RunFolder:
    command = [sys.executable, "-m", "exfuse", "train", *small_overrides, f"paths.runs={runs}", *overrides]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return only_run(runs)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_distributed_trainings_synchronise_batch_norm_and_score_every_image_once(
    small_overrides: list[str], tmp_path: Path, processes: int, precision: str, request: pytest.FixtureRequest
) -> None:
    if processes == 2:
        request.getfixturevalue("two_gpus")
    trainer = "ddp_cpu" if DRY else "ddp"
    chosen = (f"trainer={trainer}", f"trainer.devices={processes}", f"trainer.precision={precision}")
    short = ("+ablation=seb_ecre", "recipe.epochs=1", "trainer.enable_progress_bar=false")
    run = _command(small_overrides, tmp_path, *chosen, *short)
    record = record_of(run)
    assert record.scores.images == 5
    assert all(value.isfinite().all() for value in weights_of(run).values())
    model = load_checkpoint(run.path)[0]
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())


def test_two_processes_make_the_steps_of_one(small_overrides: list[str], tmp_path: Path, two_gpus: None) -> None:
    """Batch norm over the whole batch, the loss over its labelled pixels."""
    trainer = "ddp_cpu" if DRY else "ddp"
    weights: list[dict[str, Any]] = []
    for processes in (1, 2):
        chosen = (f"trainer={trainer}", f"trainer.devices={processes}", "trainer.precision=32-true", "recipe.epochs=1")
        options = ("runtime.channels_last=true", "recipe.lr=1e-4", "trainer.enable_progress_bar=false")
        weights.append(weights_of(_command(small_overrides, tmp_path / str(processes), *chosen, *options)))
    for name, value in weights[0].items():
        if value.is_floating_point():
            torch.testing.assert_close(weights[1][name], value, rtol=1e-2, atol=1e-3)


def test_a_backbone_is_pretrained(small_overrides: list[str], tmp_path: Path, device: torch.device) -> None:
    own = [word for word in small_overrides if not word.startswith(("recipe.", "backbone.", "trainer"))]
    recipe = ("augmentation.size=32", "epochs=1", "batch_size=4")
    sizes = ("pretraining.data.minimum_side=4", *(f"pretraining.recipe.{word}" for word in recipe))
    place = (f"trainer={'cpu' if DRY else 'gpu'}", "trainer.enable_progress_bar=false", f"paths.backbones={tmp_path}")
    command = [sys.executable, "-m", "exfuse", "pretrain", *own, *sizes, *place, "+ablation=ss_lr"]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert record_of(only_run(tmp_path)).backbone.accuracy["main"] >= 0


@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize("ablation", ["baseline", "exfuse"])
def test_the_peak_that_a_budget_tells_is_the_allocators(ablation: str, precision: str, device: torch.device) -> None:
    typed = [f"+ablation={ablation}", f"trainer.precision={precision}", "backbone.init=random", "recipe.augmentation.crop=256"]
    run = describe_run([*typed, "backbone=resnet50", "recipe=voc", f"trainer.accelerator={device.type}"])
    told = segmentation_peak(run, build_model(run, 21), 21, 4)
    if device.type != "cuda":
        return  # what a CPU's allocator says stands in tests/runs/test_peak.py
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    task = build_task(run, build_model(run, 21), [str(one) for one in range(21)], 1).to(device)
    step = TrainingStep(task, run, 4)
    for _ in range(2):
        step()
    assert told == pytest.approx(torch.cuda.max_memory_allocated(device) - before, rel=0.15)
