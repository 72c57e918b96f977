"""Clipping as every recipe asks for it: with a fused optimiser and without, in every number format."""
# ruff: noqa: ARG005 - options take what they are called with

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch
from msgspec.structs import replace
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from exfuse.errors import ConfigError, UserError
from exfuse.runs.fitting import GradientWarning, RateWarning
from exfuse.store.description import NO_STOP
from exfuse.tasks.optimised import Learning, OptimisedTask
from exfuse.tasks.schedule import poly
from exfuse.tasks.stopping import AveragedWeights, Stopping, longest_decay

_LIMIT = 1e-3  # far below any gradient here
_STEPS = 2


class _Regression(OptimisedTask):
    def __init__(self, fused: bool) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3))
        optimizer = partial(torch.optim.SGD, fused=fused)
        schedule = partial(poly, power=0.0, warmup_steps=0)
        super().__init__(model, Learning(optimizer, schedule, 1.0, 0.0, {}), 1.0, "0")
        self.moved: list[float] = []

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        return 100 * self.model(batch).float().square().mean()

    def on_before_zero_grad(self, _: Any) -> None:
        now = torch.cat([weight.detach().flatten() for weight in self.model.parameters()])
        if hasattr(self, "before"):
            self.moved.append(float((now - self.before).norm()))
        self.before = now


def _format(precision: str) -> dict[str, Any]:
    if precision != "16-mixed":
        return {"precision": precision}
    # as on a GPU: by itself Lightning takes bfloat16 on CPUs
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0))]}


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "16-mixed"])
def test_every_step_is_clipped(fused, precision):
    task = _Regression(fused)
    loader = DataLoader(torch.ones(_STEPS + 1, 3, 8, 8), batch_size=1)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        accelerator="cpu",
        **_format(precision),
        max_epochs=1,
        gradient_clip_val=_LIMIT,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, loader)
    assert len(task.moved) == _STEPS
    assert task.moved == pytest.approx([_LIMIT] * _STEPS, rel=1e-3)  # at a rate of 1 a step is as long as its gradient


@pytest.mark.parametrize(
    ("epochs", "warmup", "decay", "stopped", "says"),
    [
        (2, 6, None, False, "the learning rate never exceeds 31 % of what the recipe says"),
        (4, 2, None, False, ""),
        (2, 60, None, True, "the learning rate never exceeds 9 % of what the recipe says"),
        (3, 0, 0.9, False, "ema_decay=0.9: after this training's 9 steps 39 % of the averaged weights"),
        (3, 0, 0.9, True, "ema_decay=0.9: after this training's 9 steps 39 % of the averaged weights"),
        (3, 0, 0.5, False, ""),
        (1, 0, 0.9, False, "Take at most 0.34."),
        (200, 0, 0.9999, False, "after this training's 600 steps 94 % of the averaged weights"),
    ],
)
def test_a_training_too_short_for_its_schedule_or_average_says_so(epochs, warmup, decay, stopped, says, capsys):
    task = _Regression(fused=False)
    task.schedule_factory = partial(poly, power=0.9, warmup_steps=warmup)
    averaging = [AveragedWeights(decay=decay)] if decay else []
    stopping = [Stopping(replace(NO_STOP, steps=3 * epochs), "none")] if stopped else []
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=40 if stopped else epochs,
        callbacks=[RateWarning(), *averaging, *stopping],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, DataLoader(torch.ones(3, 3, 8, 8), batch_size=1))  # type: ignore[arg-type]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning:")]
    assert len(said) == bool(says)
    assert says in "".join(said)
    if "Take at most" in "".join(said):
        assert 0.03 < float(said[0].split()[-1].rstrip(".")) ** trainer.global_step <= 0.05  # of the start there is little left


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (lambda step: -float(step), r"recipe\.schedule: at step 1 the learning rate is -1\.0 of what"),
        (lambda step: float("nan") if step == 2 else 1.0, r"recipe\.schedule: at step 2 the learning rate is nan"),
        ((lambda step: 1.0, lambda step: -1.0), r"recipe\.schedule: at step 0 the learning rate is -1\.0 of what"),
        (lambda step: 1 / (2 - step), r"recipe\.schedule knows no learning rate of step 2: ZeroDivisionError"),
    ],
)
def test_a_schedule_that_has_no_rate_for_a_step_is_refused_before_the_first(factor, says):
    trainer = SimpleNamespace(estimated_stepping_batches=6, callbacks=[], is_global_zero=True)
    groups = [{"params": [nn.Parameter(torch.ones(1))]} for _ in range(2 if isinstance(factor, tuple) else 1)]
    schedule = LambdaLR(SGD(groups), lambda _: 1.0)
    schedule.lr_lambdas = [*factor] if isinstance(factor, tuple) else [factor]
    trainer.lr_scheduler_configs = [SimpleNamespace(scheduler=schedule)]
    with pytest.raises(ConfigError, match=says):
        RateWarning().on_train_start(trainer, None)


@pytest.mark.parametrize("factors", [[lambda step: 1 - sum([1 / 49] * step)], [lambda _: 0.0, lambda _: 1.0]])
def test_a_schedule_may_end_at_zero_and_keep_a_group_frozen(factors, capsys):
    schedule = LambdaLR(SGD([{"params": [nn.Parameter(torch.ones(1))]} for _ in factors]), factors)
    trainer = SimpleNamespace(estimated_stepping_batches=50, callbacks=[], is_global_zero=True)
    trainer.lr_scheduler_configs = [SimpleNamespace(scheduler=schedule)]
    RateWarning().on_train_start(trainer, None)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_module_that_nobody_calls_is_named_before_the_first_update(frozen, parts, capsys):
    task = _Regression(fused=False)
    task.model[0].idle = nn.Linear(2, 2).requires_grad_(not frozen)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        accumulate_grad_batches=parts,
        callbacks=[GradientWarning()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, DataLoader(torch.ones(4, 3, 8, 8), batch_size=1))  # type: ignore[arg-type]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning:")]
    assert len(said) == (not frozen)
    assert "does not depend on 2 parameters: 0.idle.weight, 0.idle.bias. Unless" in "".join(said) or frozen


@pytest.mark.parametrize("waits", [True, False])
def test_several_devices_that_would_wait_for_its_gradients_are_refused(waits, capsys):
    task = _Regression(fused=False)
    task.model[0].idle = nn.Linear(2, 2)
    wrapped = Mock(spec=DistributedDataParallel, find_unused_parameters=not waits, static_graph=False)
    trainer = SimpleNamespace(global_step=0, is_global_zero=True, strategy=SimpleNamespace(model=wrapped))
    with pytest.raises(UserError, match=r"add trainer\.strategy=ddp_find_unused_parameters_true") if waits else nullcontext():
        GradientWarning().on_before_optimizer_step(trainer, task)
    assert ("is there a module that forward never calls?" in capsys.readouterr().err) != waits


def test_an_optimiser_may_leave_out_what_is_frozen():
    task = _Regression(fused=False)
    task.model[0].weight.requires_grad_(False)
    trainable = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    task.optimizer_factory = lambda groups, lr: SGD(trainable)
    assert len(task.build_optimizer().param_groups[0]["params"]) == 3


class _Merged(nn.Conv2d):
    """Does something of its own where it is told of a mode."""

    merged = 0

    def train(self, mode: bool) -> "_Merged":  # type: ignore[override]
        self.merged += (not mode) - self.merged
        return super().train(mode)


class _Parent(nn.Identity):
    """Tells a child that stays frozen, as all parents do, of its own mode."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = _Merged(1, 1, 1)
        self.frozen.train(False)

    def train(self, mode: bool = True) -> "_Parent":
        return super().train(mode)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps


class _Told(_Regression):
    def __init__(self) -> None:
        super().__init__(fused=False)
        self.model.append(_Merged(1, 1, 1)), self.model.append(nn.BatchNorm2d(1).eval())
        self.model.append(_Parent())
        self.seen: list[tuple[str, int, bool, bool]] = []

    def _see(self, what: str) -> None:
        self.seen.append((what, self.model[2].merged, self.model[3].training, self.training))
        assert self.model[4].frozen.merged == 1

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        self._see("train")
        return super().training_step(batch, number)

    def validation_step(self, *_: Any) -> None:
        self._see("val")


def test_after_a_validation_every_module_is_told_of_its_mode():
    task = _Told()
    loader = DataLoader(torch.ones(1, 3, 8, 8), batch_size=1)  # type: ignore[arg-type]
    usual = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    pl.Trainer(accelerator="cpu", max_epochs=2, **usual).fit(task, loader, loader)
    scored = ("val", 1, False, False)
    assert task.seen == [scored, ("train", 0, False, True), scored, ("train", 0, False, True), scored]


@pytest.mark.parametrize("steps", [3, 9, 600, 1_400_000, 80_000_000])
def test_the_decay_that_is_advised_keeps_what_it_promises(steps):
    assert 0.03 < float(longest_decay(steps)) ** steps <= 0.05


class Plain:
    pass


SGD = partial(torch.optim.SGD, lr=1.0)
OTHER = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    ("schedule", "optimizer", "says"),
    [
        (lambda step, steps: step < 3, torch.optim.SGD, r"recipe\.schedule cannot be made of the optimiser and steps=: .*'<'"),
        (lambda step, steps: int("a"), torch.optim.SGD, r"recipe\.schedule cannot be made of .*: invalid literal"),
        (lambda one, steps: ReduceLROnPlateau(one), torch.optim.SGD, r"recipe\.schedule waits for a score"),
        (lambda optimizer: None, torch.optim.SGD, r"recipe\.schedule is called with .*unexpected keyword argument 'steps'"),
        (lambda optimizer, steps: None, torch.optim.SGD, r"recipe\.schedule made None, expected a torch LRScheduler"),
        (poly, lambda params: torch.optim.SGD(params), r"recipe\.optimizer is called with parameter groups and lr=.*'lr'"),
        (lambda one, steps: LambdaLR(SGD([OTHER]), float), torch.optim.SGD, r"recipe\.schedule made one of another optimiser"),
        (poly, lambda params, lr: SGD([OTHER]), r"recipe\.optimizer made one that learns others than the parameters"),
        (poly, lambda params, lr: SGD(params[:1]), r"recipe\.optimizer made one that learns others than the parameters"),
        (poly, lambda params, lr: Plain(), r"recipe\.optimizer made .*Plain.*, expected a torch Optimizer"),
    ],
)  # fmt: skip
def test_an_own_optimiser_or_schedule_that_is_none_is_named(schedule, optimizer, says):
    task = _Regression(fused=False)
    task.optimizer_factory, task.schedule_factory = optimizer, schedule
    task.trainer = SimpleNamespace(estimated_stepping_batches=12)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=says):
        task.configure_optimizers()
