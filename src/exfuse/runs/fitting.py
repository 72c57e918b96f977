"""What training and pretraining share: the process, the Trainer, resuming, and a record that never calls a half run done."""

import logging
import traceback
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from msgspec.structs import replace
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar

from exfuse.composition.common import on_gpu
from exfuse.composition.precision import resolve_precision
from exfuse.errors import CheckpointError, ConfigError
from exfuse.files import write_atomically
from exfuse.runs.allocator import keep_freed_memory
from exfuse.runs.checkpoint_io import AtomicCheckpointIO
from exfuse.runs.number_formats import allow_tf32
from exfuse.runs.processes import is_first_process
from exfuse.store.folder import RunFolder
from exfuse.store.record import FAILED, INTERRUPTED, RUNNING, Record
from exfuse.tasks.step_seeds import StepSeeds
from exfuse.tasks.sync_batch_norm import SyncBatchNormAnywhere
from exfuse.tracking.loggers import Logging
from exfuse.tracking.run_info import run_info, study_name


def prepare_process(config: DictConfig, seed: int) -> None:
    """Seed, set threads and number formats, resolve ``trainer.precision: auto``, silence what would bury our own news."""
    # Lightning's own news: device tables, advertisements, advice on loaders that does not apply here.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    warnings.filterwarnings("ignore", message=r".*smaller than the logging interval")
    warnings.filterwarnings("ignore", message=r".*`srun` command is available")  # a run is no SLURM task of Lightning's
    # Nothing should draw from the global generators; seed them all the same.
    pl.seed_everything(seed, verbose=False)
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    keep_freed_memory()
    allow_tf32(config.runtime.tf32)
    resolve_precision(config)


def build_trainer(
    config: DictConfig, folder: RunFolder, origin: Record, stage: str, monitor: str, extra: Sequence[Callback] = ()
) -> pl.Trainer:
    """The Trainer of a run with its loggers, checkpoints ``last`` and ``best`` by ``monitor``, and progress bar.

    Raises:
        ConfigError: if the optimiser cannot work with the number format.
    """
    _check_fused(config)
    logging_to: Logging = instantiate(config.logger)(run_info(folder.path, origin.key, stage, origin, study_name(config)))
    callbacks: list[Callback] = [
        LearningRateMonitor("step"),
        # What an interrupted run goes on from.
        ModelCheckpoint(
            folder.checkpoints,
            "last",
            every_n_epochs=config.runtime.checkpoint_every,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        ModelCheckpoint(folder.checkpoints, "best", monitor=monitor, mode="max", enable_version_counter=False),
        StepSeeds(config.seed),
        *extra,
        *logging_to.callbacks,
    ]
    if config.trainer.enable_progress_bar:
        callbacks.append(RichProgressBar())
    return instantiate(
        config.trainer,
        logger=logging_to.loggers,
        callbacks=callbacks,
        plugins=[
            AtomicCheckpointIO(),
            *([SyncBatchNormAnywhere(on_gpu(config))] if config.trainer.sync_batchnorm else []),
        ],
        sync_batchnorm=False,  # Lightning's own, which refuses CPUs
        default_root_dir=str(folder.path),
    )


def fit(trainer: pl.Trainer, task: pl.LightningModule, data: pl.LightningDataModule, folder: RunFolder) -> None:
    """Train to the end, from the folder's last checkpoint if there is one.

    Raises:
        CheckpointError: if that checkpoint is cut short.
        KeyboardInterrupt: after Ctrl-C.
    """
    if folder.last.exists() and not zipfile.is_zipfile(folder.last):
        raise CheckpointError(f"{folder.last} is cut short. Delete it, or add overwrite=true to train the run anew.")
    try:
        trainer.fit(task, data, ckpt_path=folder.last if folder.last.exists() else None, weights_only=True)
        trainer.save_checkpoint(folder.last)  # the last epoch need not be one of those that are saved
    except SystemExit:  # Lightning's answer to Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None


def _check_fused(config: DictConfig) -> None:
    """A fused optimiser undoes float16's loss scaling inside its step, where gradients can no longer be clipped before."""
    if config.trainer.precision == "16-mixed" and config.recipe.optimizer.get("fused") and config.recipe.gradient_clip:
        raise ConfigError(
            "trainer.precision=16-mixed with a fused optimiser cannot clip gradients. Set recipe.optimizer.fused=false, "
            "recipe.gradient_clip=null or trainer.precision=bf16-mixed."
        )


@contextmanager
def recorded(folder: RunFolder, config: DictConfig, origin: Record) -> Iterator[None]:
    """Keep the folder's record true while its run is trained: running, then interrupted or failed with the traceback.

    Whoever finishes the run writes ``done``. Only the first process of a distributed run writes.
    """
    first = is_first_process()
    if first:
        folder.write(replace(origin, status=RUNNING))
        write_atomically(folder.path / "config.yaml", lambda path: OmegaConf.save(config, path, resolve=True))
    try:
        yield
    except KeyboardInterrupt:
        if first:
            folder.write(replace(origin, status=INTERRUPTED))
        raise
    except Exception:
        if first:
            folder.write(replace(origin, status=FAILED, traceback=traceback.format_exc()))
        raise
