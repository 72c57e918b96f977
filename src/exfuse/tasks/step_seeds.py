"""Random numbers that layers draw while they train (dropout), made a function of the run's seed and the step."""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from exfuse.randomness import derive_seed


class StepSeeds(Callback):
    """Seed torch's, NumPy's and Python's global generators before every batch from (seed, epoch, batch, process).

    A resumed run then drops what one that never stopped would drop, and variants of one seed drop alike.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, _: pl.LightningModule, __: Any, batch_idx: int) -> None:
        seed = derive_seed(self.seed, "step", trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - an own technique may draw from it
        random.seed(seed)
