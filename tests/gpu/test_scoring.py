"""What a CUDA GPU calculates, against the CPU and float64: scores, decisions, gradients; loading and memory."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from exfuse import load
from exfuse.benchmarks.variants import VARIANTS, batch, build_variant, loss_of
from exfuse.cli.verbs import VERBS
from exfuse.composition.segmentation import build_data
from exfuse.config import search_path
from exfuse.devices import choose_device
from exfuse.fusing.fuse import fuse
from exfuse.models.upsample import enlarge
from exfuse.runs.backbones import resolve_normalisation
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.evaluation import evaluate
from exfuse.runs.plan import plan_run
from exfuse.store.description import RunDescription
from exfuse.tasks.scoring import score_images
from tests.command import Command
from tests.conftest import REPOSITORY
from tests.described import arguments_of
from tests.gpu.conftest import TrainThere
from tests.sharing import make_once
from tests.small_runs import only_run
from tests.test_every_entry import run_and_study, words

_DECIDED = 0.999  # of the pixels: rounding may decide a tie otherwise


@pytest.fixture(scope="module")
def exact(device: torch.device) -> torch.device:
    return choose_device(device.type)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_those_of_the_cpu(variant: str, exact: torch.device) -> None:
    image, _ = batch("cpu", 96, images=1)
    model = build_variant(variant, "cpu", "resnet18").eval()
    with torch.inference_mode():
        expected = model(image).scores
        found = model.to(exact)(image.to(exact)).scores.cpu()
        fused = fuse(model, portable=True)(image.to(exact)).scores.cpu()
    for scores in (found, fused):
        assert float((scores - expected).abs().max() / expected.abs().max()) < 1e-4
        assert float((scores.max(1).indices == expected.max(1).indices).double().mean()) > _DECIDED


def gradients(variant: str, device: torch.device, dtype: torch.dtype, autocast: torch.dtype | None, fast: bool) -> Tensor:
    model = build_variant(variant, "cpu", "resnet18", fast=fast).to(device, dtype)
    image, truth = batch("cpu", 64)
    with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
        loss = loss_of(model(image.to(device, dtype)), truth.to(device), model.auxiliary_weights)
    loss.backward()
    return torch.cat([weight.grad.double().cpu().flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize(
    ("dtype", "autocast", "bound"),
    [(torch.float64, None, 1e-9), (torch.float32, None, 1e-3), (torch.float32, torch.bfloat16, 0.1)],
    ids=["float64", "float32", "bfloat16"],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_float64(
    variant: str, dtype: torch.dtype, autocast: torch.dtype | None, bound: float, exact: torch.device
) -> None:
    expected = gradients(variant, torch.device("cpu"), torch.float64, None, fast=False)
    found = gradients(variant, exact, dtype, autocast, fast=True)
    assert float((found - expected).norm() / expected.norm()) < bound


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_enlarging_rounds_gradients_once(dtype: torch.dtype, layout: torch.memory_format, exact: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 21, 16, 16, generator=generator).to(dtype)
    gradient = torch.rand(2, 21, 128, 128, generator=generator).to(dtype)
    wide = maps.double().requires_grad_()
    (expected,) = torch.autograd.grad(F.interpolate(wide, (128, 128), mode="bilinear"), wide, gradient.double())
    there = maps.to(exact).contiguous(memory_format=layout).requires_grad_()
    (found,) = torch.autograd.grad(enlarge(there, (128, 128)), there, gradient.to(exact))
    error = (found.double().cpu() - expected).abs() / expected.abs()
    assert float(error.max()) < torch.finfo(dtype).eps


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_is_scored_on_the_gpu_as_on_the_cpu_and_twice_the_same(
    train_there: TrainThere, exact: torch.device, workers: int
) -> None:
    run = train_there("+ablation=exfuse", "recipe.epochs=1")
    model, described, _ = load_checkpoint(run.path)
    plan = plan_run(described)
    data = build_data(described, plan.splits["train"], plan.splits["val"]).val_set
    there, again = (score_images(model, data, exact, workers).counts for _ in range(2))
    here = score_images(model, data, torch.device("cpu"), 0).counts
    assert np.array_equal(there, again)
    assert np.abs(there - here).sum() / 2 <= (1 - _DECIDED) * here.sum()
    assert np.array_equal(there.sum((1, 2)), here.sum((1, 2)))


@pytest.mark.parametrize("protocol", sorted(search_path.options("protocol")))
def test_evaluation_gives_the_runs_own_scores_again(
    train_there: TrainThere, device: torch.device, protocol: str, tmp_path: Path
) -> None:
    run = train_there("recipe.epochs=1", "runtime.tf32=true")  # of the training alone
    record = run.record()
    assert record is not None
    asked = (f"checkpoint={run.path}", f"output={tmp_path / 'out'}", f"device={device.type}", f"protocol={protocol}")
    evaluate(**arguments_of("evaluate", *asked))
    again = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert again["images"] == record.scores.images
    if protocol == "single_scale":
        assert again["confusion"] == record.scores.confusion


@pytest.fixture(scope="module")
def trained_there(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], device: torch.device, tmp_path_factory
) -> Path:
    place = () if device.type == "cpu" else ("trainer=gpu", "trainer.enable_progress_bar=false")
    chosen = (*small_overrides, *place, "+ablation=seb_ecre", "recipe.epochs=1")
    return make_once(tmp_path_factory, "trained_there", lambda folder: run_and_study(folder, compose_config, chosen))


TAKE_A_DEVICE = [
    verb.name
    for verb in VERBS
    if verb.name != "bench" and "\ndevice:" in (REPOSITORY / "conf" / f"{verb.config}.yaml").read_text()
]


@pytest.mark.parametrize("verb", TAKE_A_DEVICE)
@pytest.mark.usefixtures("forked")
def test_every_verb_runs_there(
    verb: str, trained_there: Path, device: torch.device, small_overrides: list[str], tmp_path: Path, command: Command
) -> None:
    run = only_run(trained_there / "runs")
    called = words(verb, run, trained_there / "study", tmp_path, small_overrides)
    status, said, told = command(*verb.split(), *called, f"device={device.type}")
    assert status == 0, said + told


def test_a_loaded_run_labels_there_as_on_the_cpu(trained_there: Path, device: torch.device) -> None:
    run = only_run(trained_there / "runs")
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    there, here = (load(run.path, one).predict(picture) for one in (device.type, "cpu"))
    assert float((there == here).mean()) > _DECIDED


def test_pinned_batches_arrive_whole(exact: torch.device, small_overrides: list[str], compose_config, tmp_path: Path) -> None:
    """Through the loaders of a training, pinned and copied without waiting, with workers and the cache on disk."""
    own = (f"paths.runs={tmp_path}", "runtime.workers=2", "runtime.cache=disk", f"paths.cache={tmp_path / 'cache'}")
    run: RunDescription = compose_config(*small_overrides, *own)
    plan = plan_run(run)
    data = build_data(resolve_normalisation(plan.run), plan.splits["train"], plan.splits["val"])
    data.setup("fit")
    loader = data.train_dataloader()
    pinned = torch.utils.data.DataLoader(
        loader.dataset, batch_size=4, sampler=loader.sampler, num_workers=2, pin_memory=exact.type == "cuda"
    )
    for plain, there in zip(loader, pinned, strict=True):
        assert there["image"].is_pinned() is (exact.type == "cuda")
        for name in ("image", "mask"):
            assert torch.equal(there[name].to(exact, non_blocking=True).cpu(), plain[name])


def test_a_training_step_holds_the_memory_that_its_record_names(train_there: TrainThere, device: torch.device) -> None:
    """The allocator's peak: weights, gradients and the optimiser's state, and activations at least."""
    record = train_there("+ablation=exfuse", "recipe.epochs=1").record()
    assert record is not None
    assert record.costs is not None
    assert record.costs.peak_memory_mib is not None
    assert record.costs.peak_memory_mib > 3 * 4 * record.parameters / 2**20
    assert record.costs.memory_of == ("process (resident set)" if device.type == "cpu" else "CUDA allocator")
