import numpy as np
import pytest
import torch
from torch import nn

from exfuse.tasks.schedule import cosine, poly


def rates(steps: int, power: float, warmup_steps: int, bases: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """The rate of each group at each of ``steps`` optimiser steps, and after the last: (steps + 1, groups)."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": base} for base in bases]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    schedule = poly(optimizer, steps, power, warmup_steps)
    seen = []
    for _ in range(steps + 1):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return np.array(seen)


@pytest.mark.parametrize("power", [0.5, 0.9, 1.0, 2.0])
def test_rate_falls_by_the_formula_from_its_base_to_zero(power):
    seen = rates(40, power, warmup_steps=0, bases=(0.3,))[:, 0]
    for step, rate in enumerate(seen):
        assert rate == pytest.approx(0.3 * (1 - step / 40) ** power)
    assert seen[0] == 0.3
    assert seen[-1] == 0


def test_warmup_is_a_linear_rise_onto_the_same_curve():
    plain, warm = rates(100, 0.9, warmup_steps=0)[:, 0], rates(100, 0.9, warmup_steps=9)[:, 0]
    np.testing.assert_allclose(warm[:10] / plain[:10], np.arange(1, 11) / 10)  # the first step already learns
    np.testing.assert_allclose(warm[9:], plain[9:])
    assert warm[-1] == 0


def test_groups_keep_their_ratio_at_every_step():
    seen = rates(30, 0.9, warmup_steps=5, bases=(0.02, 0.002, 0.02))
    np.testing.assert_allclose(seen[:, 1], seen[:, 0] / 10)
    np.testing.assert_allclose(seen[:, 2], seen[:, 0])


def test_rate_stays_at_zero_beyond_the_last_step():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = poly(optimizer, steps=3, power=0.9, warmup_steps=0)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0


def test_a_resumed_schedule_goes_on_where_it_was():
    def make() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        return optimizer, poly(optimizer, steps=20, power=0.9, warmup_steps=4)

    through, resumed = make(), make()
    for _ in range(7):
        for part in through:
            part.step()
    for part, saved in zip(resumed, through, strict=True):
        part.load_state_dict(saved.state_dict())
    for _ in range(5):
        for part in (*through, *resumed):
            part.step()
        assert resumed[0].param_groups[0]["lr"] == through[0].param_groups[0]["lr"] > 0


def test_cosine_falls_from_its_base_to_zero_after_the_warm_up():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    schedule = cosine(optimizer, steps=50, warmup_share=0.2)
    seen = []
    for _ in range(51):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen[:10] == pytest.approx([0.4 * (step + 1) / 11 for step in range(10)])
    assert seen[10:] == pytest.approx([0.2 * (1 + np.cos(np.pi * step / 40)) for step in range(41)])
