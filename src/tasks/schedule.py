"""Learning-rate schedules by optimiser step."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def poly(optimizer: Optimizer, steps: int, power: float, warmup_steps: int) -> LambdaLR:
    """``lr * (1 - step / steps)^power``, after a linear rise over the first ``warmup_steps``.

    Args:
        optimizer: whose groups keep their ratios.
        steps: optimiser steps of the whole training.
        power: of the decay; 0.9 is the field's habit.
        warmup_steps: 0 for none.
    """

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_steps + 1))
        return rise * max(0.0, 1 - step / steps) ** power

    return LambdaLR(optimizer, factor)
