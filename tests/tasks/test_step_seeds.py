"""What own code draws from any global generator is a function of the seed and the step."""

import random
from types import SimpleNamespace

import numpy as np
import torch

from exfuse.tasks.step_seeds import StepSeeds


def draws(seed: int, epoch: int, batch: int) -> tuple[float, ...]:
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=0)
    StepSeeds(seed).on_train_batch_start(trainer, None, None, batch)  # type: ignore[arg-type]
    return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def test_a_steps_draws_depend_on_nothing_before_it() -> None:
    first = draws(0, 1, 2)
    others = [draws(1, 1, 2), draws(0, 2, 2), draws(0, 1, 3)]
    assert draws(0, 1, 2) == first
    assert all(one != other for drawn in others for one, other in zip(drawn, first, strict=True))
