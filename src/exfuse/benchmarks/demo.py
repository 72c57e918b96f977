"""The demo's training on one core: the loss's share of a tiny model's step, by form, and its rate against its former one."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from exfuse.benchmarks.report import Measurement, hold, profile_of
from exfuse.composition.precision import resolve_precision
from exfuse.composition.segmentation import build_model, build_task
from exfuse.config.overrides import describe_run
from exfuse.memory import keep_freed_memory
from exfuse.palette import VOID
from exfuse.runs.backbones import resolve_normalisation
from exfuse.runs.step import TrainingStep
from exfuse.tasks.losses import CrossEntropy, segmentation_loss
from exfuse.timing import median_ms

_OVERRIDES = ("trainer=cpu", "recipe=demo", "backbone.init=random")
_NOW = ("trainer.precision=auto", "backbone=resnet_cpu")  # the network and steps of `make demo`, and what it had before
_BEFORE = ("trainer.precision=32-true", "backbone=resnet_tiny", "recipe.optimizer.fused=false")
_SHAPES = ((11, 96), (21, 192))  # classes and crop: the demo's, and VOC's with a larger crop
_REPEATS = 11
_LOSS, _RATE = "<= 0.05", ">= 1.80"


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """One thread, whatever the others have: a core's share of runs side by side."""
    keep_freed_memory()  # as in training
    torch.set_num_threads(1)
    lines = []
    for classes, crop in _SHAPES:
        progress(f"the loss in a tiny model's step, {classes} classes, {crop}x{crop}")
        lines += _loss(device, classes, crop)
    progress("the demo's step against its former one")
    return [*lines, _rate()]


def _step(device: str, classes: int, crop: int, *overrides: str) -> TrainingStep:
    run = describe_run([*_OVERRIDES, f"recipe.augmentation.crop={crop}", *overrides])
    run = resolve_normalisation(resolve_precision(run))
    task = build_task(run, build_model(run, classes), [f"class {number}" for number in range(classes)], 1)
    return TrainingStep(task.to(device), run, run.recipe.batch_size)


def _loss(device: str, classes: int, crop: int) -> list[Measurement]:
    step = _step(device, classes, crop)
    image = step.batch["image"].contiguous(memory_format=torch.channels_last)
    scores, truth = step.task.model(image).scores.detach().requires_grad_(), step.batch["mask"]
    forms = {
        "softmax over rows of classes": _over_rows,
        "over channels_last maps": _over_maps,
        "over contiguous maps": lambda scores, truth: _over_maps(scores.contiguous(), truth),
        "softmax once, by hand": _once,
    }

    def both_ways(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        scores.grad = None
        loss(scores, truth).backward()

    sides: list[Callable[[], object]] = [step, *(partial(both_ways, one) for one in (segmentation_loss, *forms.values()))]
    whole, ours, *others = median_ms(sides, _REPEATS, 2, device)
    where = f"{step.images} images, {classes} classes, {crop}x{crop}, {str(scores.dtype).removeprefix('torch.')}, one thread"
    share = "loss, forward and backward / a tiny model's training step"
    return [
        hold(f"{share}, {classes} classes", ours, whole, "ms", _LOSS, where, profile=lambda: profile_of(sides[1])),
        *(
            hold(f"loss / {form}, forward and backward, {classes} classes", ours, other, "ms", details=where)
            for form, other in zip(forms, others, strict=True)
        ),
    ]


def _rate() -> Measurement:
    """On a CPU, as the demo is trained, whatever the device."""
    classes, crop = _SHAPES[0]
    now, before = _step("cpu", classes, crop, *_NOW), _step("cpu", classes, crop, *_BEFORE)
    before.task.loss = _Rows(())
    ours, former = (1e3 * now.images / taken for taken in median_ms([now, before], _REPEATS, 2, "cpu"))
    return hold(
        "demo's training on one core / as it was",
        ours,
        former,
        "images/s",
        _RATE,
        f"GCN baseline on resnet_cpu, {str(now.half or torch.float32).removeprefix('torch.')} / on resnet_tiny, float32, loss "
        f"over rows, optimiser by parameter; batch {now.images}, {crop}x{crop}, optimiser included",
        profile=lambda: profile_of(now),
    )


class _Rows(CrossEntropy):
    def forward(self, scores: Tensor, truth: Tensor) -> Tensor:
        return _over_rows(scores, truth)


def _over_rows(scores: Tensor, truth: Tensor) -> Tensor:
    rows = scores.float().permute(0, 2, 3, 1).flatten(0, 2)
    return F.cross_entropy(rows, truth.long().flatten(), ignore_index=VOID)


def _over_maps(scores: Tensor, truth: Tensor) -> Tensor:
    return F.cross_entropy(scores.float(), truth.long(), ignore_index=VOID)


def _once(scores: Tensor, truth: Tensor) -> Tensor:
    return _Once.apply(scores.float(), truth)  # type: ignore[no-any-return]


class _Once(torch.autograd.Function):
    """The mean cross entropy, its gradient made in the forward pass from the same softmax."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, scores: Tensor, truth: Tensor) -> Tensor:
        labelled = (truth != VOID)[:, None]
        target = truth.long()[:, None].clamp(max=scores.shape[1] - 1)
        number = labelled.sum().clamp(min=1)
        logs = scores.log_softmax(1)
        loss = -(logs.gather(1, target) * labelled).sum() / number
        gradient = logs.exp_()
        gradient.scatter_add_(1, target, torch.full_like(target, -1, dtype=gradient.dtype))
        ctx.save_for_backward(gradient.mul_(labelled / number))
        return loss

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (kept,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return kept * gradient, None
