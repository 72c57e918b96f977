"""The progress bar of a training."""

import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import ProgressColumn, Task
from rich.text import Text

_BAR = 20  # characters: there is room for numbers within 80


class ProgressBar(RichProgressBar):
    """Lightning's, with epochs from 1, the time left of the whole training, and no versions of logs.

    The loss is that of every so many steps: whoever asks a GPU for one waits until it has calculated it.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self._loss: dict[str, Any] = {}
        self._left = _TimeLeft()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._left.start(trainer.global_step, trainer.estimated_stepping_batches)
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, *more: Any) -> None:
        self._left.step = trainer.global_step
        super().on_train_batch_end(trainer, *more)

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        described, bar, batches, *_ = super().configure_columns(trainer)
        bar.bar_width = _BAR
        return [described, bar, batches, self._left]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        if trainer.training and (trainer.global_step % self.steps == 0 or not self._loss):
            self._loss = {name: float(value) for name, value in trainer.callback_metrics.items() if name == "train/loss"}
        shown = super().get_metrics(trainer, pl_module) | self._loss
        percent = {"val/miou": "mIoU %", "val/accuracy": "accuracy %"}  # as tables and pages have them
        return {
            percent.get(name, name.removeprefix("train/")): f"{100 * float(value):.1f}" if name in percent else value
            for name, value in shown.items()
            if name != "v_num"
        }

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1} of {self.trainer.max_epochs}"


class _TimeLeft(ProgressColumn):
    """The time until the last step, at the speed of this start so far, validations included."""

    max_refresh = 0.5  # seconds
    first = step = 0

    def start(self, step: int, steps: float) -> None:
        """Count from optimiser step ``step`` of ``steps``."""
        self.first = self.step = step
        self.steps, self.since = steps, time.monotonic()

    def render(self, _task: Task) -> Text:
        """See `rich.progress.ProgressColumn.render`."""
        done = self.step - self.first
        if not done:
            return Text("-:--:-- left", "dim")
        seconds = (time.monotonic() - self.since) / done * (self.steps - self.step)
        return Text(f"{timedelta(seconds=int(seconds))} left", "dim")
