"""Learning-rate schedules by optimiser step."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from exfuse.limits import NonNegative, NonNegativeFloat, Share

LEAST_PEAK = 0.5  # of a recipe's learning rate, chosen: a training that never comes so far has not left its warm-up


def poly(optimizer: Optimizer, steps: int, power: NonNegativeFloat, warmup_steps: NonNegative) -> LambdaLR:
    """``lr * (1 - step / steps)^power``, after a linear rise over the first ``warmup_steps``.

    Args:
        optimizer: whose groups keep their ratios.
        steps: optimiser steps of the whole training.
        power: of the decay; 0.9 is the field's habit.
        warmup_steps: 0 for none.
    """

    def factor(step: int) -> float:
        return _rise(step, warmup_steps) * max(0.0, 1 - step / steps) ** power

    return LambdaLR(optimizer, factor)


def cosine(optimizer: Optimizer, steps: int, warmup_share: Share) -> LambdaLR:
    """Half a cosine from ``lr`` down to 0, after a linear rise over the first ``warmup_share`` of the steps."""
    warmup_steps = round(warmup_share * steps)

    def factor(step: int) -> float:
        done = max(0, step - warmup_steps) / max(1, steps - warmup_steps)
        return _rise(step, warmup_steps) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimizer, factor)


def _rise(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / (warmup_steps + 1))
