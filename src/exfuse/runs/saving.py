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
        self._blocked = 0.0  # seconds that saving has kept the training waiting since the last saving that was not cheap
        self._since = time.monotonic()

    def affordable(self) -> bool:
        """Whether what saving took last time is little of the time since then."""
        return self._blocked < max(_CHEAP, _SHARE * (time.monotonic() - self._since))

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        started = time.monotonic()
        self._wait()
        copied = apply_to_collection(checkpoint, Tensor, lambda tensor: tensor.detach().to("cpu", copy=True))
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._writing = self._thread.submit(self.inner.save_checkpoint, copied, path, storage_options)
        self._since = time.monotonic()
        self._blocked = self._since - started

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
        try:
            self._wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._thread = None

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

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        saving = trainer.strategy.checkpoint_io
        affordable = not isinstance(saving, InBackground) or saving.affordable()
        if trainer.strategy.broadcast(affordable):  # the first process decides for all: they save together
            super().on_train_epoch_end(trainer, pl_module)
