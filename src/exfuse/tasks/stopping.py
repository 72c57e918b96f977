"""Trainings that end before their recipe's epochs: by a rule, which leaves them whole, or by the clock, which interrupts."""

import math
import re
import time
from itertools import accumulate
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging

from exfuse.errors import complain, plural
from exfuse.store.description import Stop

_MOST_LEFT = 0.05  # of the weights that a training starts with, in their average


class Stopping(Callback):
    """Ends a training as its rule says: after so many steps or epochs, or once its score has not risen for so many looks.

    What it has seen travels in checkpoints, so that a resumed training stops where one that never stopped would, also if it was
    killed after its last step: Lightning's own forgets that it had decided.

    Args:
        rule: of the run.
        monitor: the score, of the images that training is validated on.
    """

    def __init__(self, rule: Stop, monitor: str) -> None:
        self.rule, self.monitor = rule, monitor
        self.looks: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"looks": [*self.looks]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.looks = [*state_dict["looks"]]

    def is_over(self, trainer: pl.Trainer) -> bool:
        """Whether the rule ends the training here."""
        rule = self.rule
        return (
            (rule.steps is not None and trainer.global_step >= rule.steps)
            or (rule.epochs is not None and epochs_done(trainer) >= rule.epochs)
            or (rule.patience is not None and self._waited() >= rule.patience)
            or any(best < floor for best, floor in zip(accumulate(self.looks, max), rule.floors or (), strict=False))
        )

    def _waited(self) -> int:
        """Looks since the last that was better than the best before it."""
        best, waited = -math.inf, 0
        for score in self.looks:
            best, waited = (score, 0) if score > best + self.rule.min_delta else (best, waited + 1)
        return waited

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        trainer.should_stop = self.is_over(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.is_over(trainer)

    def on_validation_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.looks.append(float(trainer.callback_metrics[self.monitor]))
        trainer.should_stop = trainer.should_stop or self.is_over(trainer)


def planned_steps(trainer: pl.Trainer) -> int:
    """Optimiser steps until the training ends at the latest, by its recipe or by its rule."""
    steps = int(trainer.estimated_stepping_batches)
    for rule in (one.rule for one in trainer.callbacks if isinstance(one, Stopping)):  # type: ignore[attr-defined]
        of_epochs = steps * rule.epochs // (trainer.max_epochs or 1) if rule.epochs else steps
        steps = min(steps, rule.steps or steps, of_epochs)
    return max(1, steps)


def epochs_done(trainer: pl.Trainer) -> float:
    """Epochs by the optimiser's steps, of which the last may be in the middle of one."""
    return trainer.global_step / max(1, trainer.num_training_batches // trainer.accumulate_grad_batches)


class TimeLimit(Callback):
    """Interrupts a training, as Ctrl-C does, at the first step after so long: it keeps its last saved epoch and is not done.

    Args:
        limit: of this start, as ``trainer.max_time`` is written, DD:HH:MM:SS.
    """

    def __init__(self, limit: str) -> None:
        self.limit = limit
        days, hours, minutes, seconds = map(int, re.split(":", limit))
        self.seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        over = time.monotonic() - self._began >= self.seconds
        if trainer.strategy.broadcast(over):  # the first process decides for all
            if trainer.is_global_zero:
                complain(f"trainer.max_time={self.limit} is over after step {trainer.global_step}.")
            raise KeyboardInterrupt


def longest_decay(steps: int) -> str:
    """The decay after which ``steps`` leave as little of a training's start as they should, as people type it."""
    rest = float(f"{1.05 * (1 - _MOST_LEFT ** (1 / steps)):.2g}")  # rounded so that it keeps what it promises
    return f"{1 - min(rest, 0.99):.12g}"


class AveragedWeights(EMAWeightAveraging):
    """Lightning's moving average of weights and batch norm statistics, which validates, scores and saves the average.

    Lightning leaves a training that is resumed after its last step with the weights that it averaged; here it ends with the
    average as well. Where a training is too short for its decay, it says so: there is no correction for the start.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)
        self.decay = decay

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        super().on_train_start(trainer, task)
        steps = planned_steps(trainer)
        if (left := self.decay**steps) > _MOST_LEFT and trainer.is_global_zero:
            complain(
                f"ema_decay={self.decay:g}: after this training's {plural(steps, 'step')} {100 * left:.0f} % of the averaged "
                f"weights, which are scored and kept, are those of its start. Take at most "
                f"{longest_decay(steps)}.",
                "Warning",
            )

    def on_fit_end(self, _: pl.Trainer, task: pl.LightningModule) -> None:
        self._copy_average_to_current(task)
