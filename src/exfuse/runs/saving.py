"""When checkpoints are written, and by whom: beside the training, as often as it can afford."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins import CheckpointIO
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

_SHARE = 0.05  # of the time: what saving may take from a training
_CHEAP = 0.5  # seconds: what takes less is saved as often as was asked for


class InBackground(CheckpointIO):
    """Lightning's plugin: copy a checkpoint's tensors to the computer's memory and let a thread write them.

    A file holds what the tensors were when its writing was asked for. One is written at a time: whoever asks for the next waits
    for it, so that at most one copy is held, and gets the error if it could not be written.

    Args:
        inner: writes and reads.
    """

    def __init__(self, inner: CheckpointIO) -> None:
        self.inner = inner
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self._wait()
        copied = apply_to_collection(checkpoint, Tensor, lambda tensor: tensor.detach().to("cpu", copy=True))
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._writing = self._thread.submit(self.inner.save_checkpoint, copied, path, storage_options)

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        self._wait()
        return self.inner.load_checkpoint(path, *arguments, **options)

    def remove_checkpoint(self, path: Any) -> None:
        self._wait()
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Wait for what is being written.

        Raises:
            Exception: what its writing raised.
        """
        self._wait()

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


class LastCheckpoint(ModelCheckpoint):
    """What an interrupted run goes on from: ``last.ckpt``, written at ends of epochs, where a run resumes to the bit.

    Args:
        folder: of the checkpoints.
        epochs: write at the end of every so many, unless the one before took too much of the time since then: a gigabyte after
            every short epoch would.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        super().__init__(folder, "last", every_n_epochs=epochs, save_on_train_epoch_end=True, enable_version_counter=False)
        self._took, self._ended = 0.0, time.monotonic()  # seconds for which the last one kept the training waiting; when

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        started = time.monotonic()
        affordable = self._took < max(_CHEAP, _SHARE * (started - self._ended))
        if trainer.strategy.broadcast(affordable):  # the first process decides for all: they save together
            before = self._last_global_step_saved
            super().on_train_epoch_end(trainer, pl_module)
            if self._last_global_step_saved != before:
                self._ended = time.monotonic()
                self._took = self._ended - started
