"""A training whose loss or weights are no longer numbers ends there, and says at which step."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from exfuse.errors import NotFiniteError
from exfuse.models.weights import non_finite

_EVERY = 10  # steps between two looks at the losses: on a GPU each waits for it. Chosen
_REMEDY = "The run ends as failed; its checkpoint is from before. Lower recipe.lr, or clip gradients (recipe.gradient_clip)."


class FiniteNumbers(Callback):
    """Look at every step's loss and, before a checkpoint is written, at every weight and statistic.

    Raises:
        NotFiniteError: for the first that is not finite, from within ``fit``.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None  # step of the first loss that was none, on the device; -1 for none so far

    def on_train_batch_end(self, trainer: pl.Trainer, _: pl.LightningModule, outputs: Any, *__: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor):
            return
        step = trainer.global_step
        before = torch.full_like(loss, -1, dtype=torch.int64) if self._first is None else self._first
        self._first = torch.where((before >= 0) | loss.isfinite(), before, step)
        if step % _EVERY == 0:
            self._check_losses(trainer)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._check_all(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._check_all(trainer, module)

    def _check_losses(self, trainer: pl.Trainer) -> None:
        if self._first is not None and (step := int(self._first)) >= 0:
            raise NotFiniteError(f"The loss is not finite at step {step}, epoch {trainer.current_epoch + 1}. {_REMEDY}")

    def _check_all(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._check_losses(trainer)
        if name := non_finite(module.state_dict()):
            raise NotFiniteError(
                f"{name.removeprefix('model.')} is not finite after step {trainer.global_step}, epoch "
                f"{trainer.current_epoch + 1}. {_REMEDY}"
            )
