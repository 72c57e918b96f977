"""The progress of a training: a bar, or lines where a bar cannot move."""

import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import ProgressColumn, Task
from rich.text import Text

from exfuse.terminal import Lines

_BAR = 20  # characters: there is room for numbers within 80
_PERCENT = {"val/miou": "mIoU %", "val/accuracy": "accuracy %"}


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
        return {
            _PERCENT.get(name, name.removeprefix("train/")): f"{100 * float(value):.1f}" if name in _PERCENT else value
            for name, value in shown.items()
            if name != "v_num"
        }

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1} of {self.trainer.max_epochs}"


class ProgressLines(pl.callbacks.ProgressBar):
    """For a file or a pipe: how far the training is, its loss, the last validation's score and the time left, now and then."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines, self._left = lines, _TimeLeft()

    def disable(self) -> None:
        """Nothing to take away."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - Lightning's interface
        self._left.start(trainer.global_step, trainer.estimated_stepping_batches)

    def on_train_batch_end(self, trainer: pl.Trainer, *more: Any) -> None:
        self._left.step = trainer.global_step
        if trainer.is_global_zero:
            self._lines.say(lambda: self._line(trainer, more[-1]))

    def _line(self, trainer: pl.Trainer, batch: int) -> str:
        known = {name: float(value) for name, value in trainer.callback_metrics.items()}
        told = [f"loss {known['train/loss']:.3f}"] if "train/loss" in known else []
        told += [f"{title.removesuffix(' %')} {100 * known[name]:.1f} %" for name, title in _PERCENT.items() if name in known]
        share = 100 * (batch + 1) / max(1, trainer.num_training_batches)
        left = self._left.render(None).plain
        return f"Epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, {share:.0f} %: {', '.join([*told, left])}"


class _TimeLeft(ProgressColumn):
    """The time until the last step, at the speed of this start so far, validations included."""

    max_refresh = 0.5  # seconds
    first = step = 0

    def start(self, step: int, steps: float) -> None:
        """Count from optimiser step ``step`` of ``steps``."""
        self.first = self.step = step
        self.steps, self.since = steps, time.monotonic()

    def render(self, _task: Task | None) -> Text:
        """See `rich.progress.ProgressColumn.render`."""
        done = self.step - self.first
        if not done:
            return Text("-:--:-- left", "dim")
        seconds = (time.monotonic() - self.since) / done * (self.steps - self.step)
        return Text(f"{timedelta(seconds=int(seconds))} left", "dim")
