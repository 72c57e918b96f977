"""Random numbers that layers draw while they train (dropout), made a function of the run's seed and the step."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from exfuse.randomness import derive_seed


class StepSeeds(Callback):
    """Seed torch's global generators before every batch from (seed, epoch, batch, process).

    A resumed run then drops what one that never stopped would drop, and variants of one seed drop alike.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, _: pl.LightningModule, __: Any, batch_idx: int) -> None:
        torch.manual_seed(derive_seed(self.seed, "step", trainer.current_epoch, batch_idx, trainer.global_rank))
