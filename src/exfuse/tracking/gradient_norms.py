"""Norms of gradients, by part of the model, as curves."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class GradientNorms(Callback):
    """Log the Euclidean norm of each part's gradients before clipping, and of all together, every so many steps.

    A part is a direct child of the task's ``model``; one without a gradient is left out. In distributed training the gradients
    are already the mean over processes. A norm costs one pass over the gradients and waits for the device.

    Args:
        every: steps of the optimiser between two measurements.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step % self.every or not trainer.is_global_zero:
            return
        values: dict[str, float] = {}
        for name, part in module.get_submodule("model").named_children():
            gradients = [weight.grad.float() for weight in part.parameters() if weight.grad is not None]
            if gradients:
                values[f"gradients/{name}"] = float(torch.nn.utils.get_total_norm(gradients))
        values["gradients/all"] = sum(value**2 for value in values.values()) ** 0.5
        for logger in trainer.loggers:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=trainer.global_step)
