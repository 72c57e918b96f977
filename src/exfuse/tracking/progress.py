"""The progress bar of a training."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's, with the loss of every so many steps: whoever asks a GPU for one waits until it has calculated it."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self._loss: dict[str, Any] = {}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        if trainer.training and (trainer.global_step % self.steps == 0 or not self._loss):
            self._loss = {name: float(value) for name, value in trainer.callback_metrics.items() if name == "train/loss"}
        return super().get_metrics(trainer, pl_module) | self._loss
