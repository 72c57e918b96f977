"""What training and pretraining share: the process, the Trainer, resuming, and a record that never calls a half run done."""

import logging
import math
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytorch_lightning as pl
import torch
from msgspec.structs import asdict, replace
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from exfuse.composition.common import on_gpu
from exfuse.config.options import build
from exfuse.config.own_code import own_code
from exfuse.devices import allow_tf32, training_formats
from exfuse.errors import ConfigError, NotFiniteError, UserError, complain, first_line, plural, some, user_error
from exfuse.files import write_atomically
from exfuse.memory import keep_freed_memory
from exfuse.process import SWEEP, beat, is_first_process
from exfuse.runs.checkpoint import SealedCheckpointIO
from exfuse.runs.saving import InBackground, LastCheckpoint
from exfuse.store.description import D, PretrainingDescription, RunDescription
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import RunProgress
from exfuse.store.record import FAILED, INTERRUPTED, RUNNING, Environment, Health, Record
from exfuse.tasks.finite import FiniteNumbers
from exfuse.tasks.optimised import OptimisedTask
from exfuse.tasks.schedule import LEAST_PEAK
from exfuse.tasks.step_seeds import StepSeeds
from exfuse.tasks.stopping import Stopping, TimeLimit, planned_steps
from exfuse.tasks.sync_batch_norm import SyncBatchNormAnywhere
from exfuse.terminal import Console, Lines
from exfuse.tracking.loggers import Logging
from exfuse.tracking.progress import ProgressBar, ProgressLines
from exfuse.tracking.run_info import run_info

_LOOKS = 1000  # at most, along a schedule
_ROUNDED = -1e-6  # what a factor that ends at 0 may come to
_Described = RunDescription | PretrainingDescription
# What Lightning says against what was chosen here.
_ADVICE = (
    r".*does not have many workers",  # runtime.workers
    r"GPU available but not used",  # trainer=cpu
    r"Checkpoint directory .* exists and is not empty",  # a run goes on
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # confusion counts are already those of all processes
    r".*`srun` command is available",  # a run is no SLURM task of Lightning's
    r".*smaller than the logging interval",
    r".*isinstance\(treespec, LeafSpec\)",
)


def prepare_process(described: _Described, seed: int) -> None:
    """Seed, set threads and number formats, silence what would bury our own news."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # not its own news: device tables, advertisements
    for advice in _ADVICE:
        warnings.filterwarnings("ignore", message=advice)
    # Nothing should draw from the global generators; seed them all the same.
    pl.seed_everything(seed, verbose=False)
    if described.runtime.threads:
        torch.set_num_threads(described.runtime.threads)
    keep_freed_memory()
    allow_tf32(False)  # until its steps


def keep_threads(described: D, folder: RunFolder) -> D:
    """The description with the number of threads of this process, which is the one that the run began with.

    Sums are added up in another order with another number, which changes their last bits.
    """
    before, asked = folder.record(), described.runtime.threads
    began = (before.config.get("runtime") or {}).get("threads") if before and folder.last.exists() else None
    if began and asked not in (None, began):
        complain(f"runtime.threads={asked}: the run goes on with {began}, as it began. Another number would change its bits.")
    threads = began or asked or torch.get_num_threads()
    torch.set_num_threads(threads)
    return replace(described, runtime=replace(described.runtime, threads=threads))


def keep_code(described: D, folder: RunFolder) -> Environment:
    """What a record says of code outside this package from a run's first start on, which no later one may change.

    Raises:
        UserError: if the run began with other code.
    """
    before, code = folder.record(), own_code(described)
    began = before.environment.code if before and folder.last.exists() and not described.overwrite else {}
    if other := sorted({name for name, _ in began.items() ^ code.items() if began}):
        raise UserError(
            f"Run {folder.key} began with other code of {', '.join(other)}. Put that back, or add overwrite=true to train this "
            "run anew."
        )
    return Environment(code=code)


def build_trainer(
    described: _Described,
    folder: RunFolder,
    origin: Record,
    stage: str,
    monitor: str,
    extra: Sequence[Callback] = (),
) -> pl.Trainer:
    """The Trainer of a run with its loggers, checkpoints ``last`` and ``best`` by ``monitor``, and progress bar.

    Raises:
        ConfigError: if the device does not train in the number format.
    """
    study = str(described.study["name"]) if described.study else os.environ.get(SWEEP) or None
    logging_to: Logging = build("logger", described.logger)(run_info(folder.path, origin.key, stage, origin, study))
    if not isinstance(logging_to, Logging):
        raise ConfigError(f"logger={described.logger.name} made {logging_to!r:.80}, expected Logging. See docs/extend.md.")
    callbacks: list[Callback] = [
        LearningRateMonitor("step"),
        ModelCheckpoint(folder.checkpoints, "best", monitor=monitor, mode="max", enable_version_counter=False),
        # What an interrupted run goes on from; it knows of the best before it.
        LastCheckpoint(folder.checkpoints, described.runtime.checkpoint_every),
        StepSeeds(described.seed),
        _Heartbeat(monitor, "backbone" if stage == "pretrain" else ""),
        FiniteNumbers(),
        _OnceAnEpoch(),
        RateWarning(),
        GradientWarning(),
        *extra,
        *logging_to.callbacks,
    ]
    arguments = asdict(described.trainer)
    if limit := arguments.pop("max_time"):
        callbacks.append(TimeLimit(limit))
    if arguments["enable_progress_bar"]:
        lines = Lines(Console())
        callbacks.append(ProgressLines(lines) if lines.wanted else ProgressBar(described.trainer.log_every_n_steps))
    synchronised = arguments.pop("sync_batchnorm")  # Lightning's own refuses CPUs
    plugins: list[Any] = [InBackground(SealedCheckpointIO())]
    if synchronised:
        plugins.append(SyncBatchNormAnywhere(on_gpu(described)))
    more = {"default_root_dir": str(folder.path)} | arguments.pop("more")
    try:
        trainer = pl.Trainer(**arguments, **more, logger=logging_to.loggers, callbacks=callbacks, plugins=plugins)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: Lightning refuses these settings: {first_line(error)}.") from error
    if (asked := described.trainer.precision) != trainer.precision:  # which the record would not say
        raise ConfigError(
            f"trainer.precision={asked}: the device trains in {trainer.precision} instead. Set trainer.precision="
            f"{trainer.precision}, or trainer=gpu where there is one."
        )
    return trainer


def fit(trainer: pl.Trainer, task: OptimisedTask, data: pl.LightningDataModule, folder: RunFolder, tf32: bool = False) -> None:
    """Train to the end, from the folder's last checkpoint if there is one; afterwards the last one is there.

    Raises:
        CheckpointError: if that checkpoint is not the one that was written.
        UserError: if the loss or a weight becomes no number, or the training stops before its end.
        KeyboardInterrupt: after Ctrl-C.
    """
    began = folder.last if folder.last.exists() else None
    task.open_layout = task.open_layout and began is None  # it goes on in its own
    try:
        with training_formats(tf32):
            trainer.fit(task, data, ckpt_path=began, weights_only=True)
        by_rule = any(isinstance(one, Stopping) and one.is_over(trainer) for one in trainer.callbacks)  # type: ignore[attr-defined]
        if trainer.current_epoch < (trainer.max_epochs or 0) and not by_rule:
            raise UserError(
                f"Training stopped after {trainer.current_epoch} of {trainer.max_epochs} epochs: the run is not done."
            )
        trainer.save_checkpoint(folder.last)  # the last epoch need not be one of those that are saved
        trainer.strategy.checkpoint_io.teardown()
    except SystemExit:  # Lightning's answer to Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None


class _OnceAnEpoch(Callback):
    """Curves get a point an epoch at least, however few steps it has."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - Lightning's interface
        steps = int(trainer.num_training_batches) // trainer.accumulate_grad_batches
        trainer.log_every_n_steps = max(1, min(trainer.log_every_n_steps, steps))  # type: ignore[attr-defined]


class RateWarning(Callback):
    """Says before the first step where a schedule never comes near the learning rate that was asked for, or is none.

    Raises:
        ConfigError: of a rate that is negative or no number.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - Lightning's interface
        steps = planned_steps(trainer)
        for schedule in (config.scheduler for config in trainer.lr_scheduler_configs if trainer.is_global_zero):
            if not isinstance(schedule, LambdaLR):
                continue
            looked_at = {round(place * (steps - 1) / _LOOKS) for place in range(_LOOKS + 1)}
            factors = {(step, one): _factor(one, step) for step in sorted(looked_at) for one in {*schedule.lr_lambdas}}
            for (step, _), factor in factors.items():
                if not _ROUNDED <= factor < math.inf:
                    raise ConfigError(
                        f"recipe.schedule: at step {step} the learning rate is {factor} of what the recipe says. Expected 0 or "
                        "more."
                    )
            if (peak := max(factors.values())) < LEAST_PEAK:
                complain(
                    f"the learning rate never exceeds {100 * peak:.0f} % of what the recipe says: its schedule warms up for "
                    f"most of this training's {plural(steps, 'step')}. Train longer, or shorten that (such as "
                    "recipe.schedule.warmup_steps).",
                    "Warning",
                )


def _factor(factor: Callable[[int], float], step: int) -> float:
    try:
        return float(factor(step))
    except Exception as error:  # somebody's own
        why = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"recipe.schedule knows no learning rate of step {step}: {why}") from error


class GradientWarning(Callback):
    """Says before the first update which parameters its loss does not depend on, as those of a module that nobody calls.

    Raises:
        UserError: where several devices would wait for the gradients of these for ever.
    """

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step:
            return
        lacking = [
            name.removeprefix("model.") for name, one in pl_module.named_parameters() if one.requires_grad and one.grad is None
        ]
        if not lacking:
            return
        told = f"the loss of the first step does not depend on {plural(len(lacking), 'parameter')}: {some(lacking)}."
        wrapped = trainer.strategy.model
        if isinstance(wrapped, DistributedDataParallel) and not (wrapped.find_unused_parameters or wrapped.static_graph):
            raise UserError(
                f"{told} Several devices wait for every parameter's gradient: leave out what forward never calls, or add "
                "trainer.strategy=ddp_find_unused_parameters_true."
            )
        if trainer.is_global_zero:
            complain(
                f"{told} Unless that of later ones does, they learn nothing: is there a module that forward never calls?",
                "Warning",
            )


class _Heartbeat(Callback):
    """Tells the supervisor of a sweep with every batch that the training goes on, and how far it is."""

    def __init__(self, monitor: str, of: str) -> None:
        self.monitor, self.of = monitor, of
        self.score: float | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        beat(lambda: self._said(trainer, rest[-1]))

    def on_validation_batch_start(self, *_: Any) -> None:
        beat()

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.monitor in trainer.callback_metrics:
            self.score = float(trainer.callback_metrics[self.monitor])

    def _said(self, trainer: pl.Trainer, batch: int) -> str:
        epoch = trainer.current_epoch + batch / max(1, trainer.num_training_batches)
        return msgspec.json.encode(RunProgress(epoch, trainer.max_epochs or 0, self.score, self.of)).decode()


@contextmanager
def recorded(folder: RunFolder, origin: Record) -> Iterator[None]:
    """Keep the folder's record true while its run is trained: running, then interrupted or failed with the traceback.

    Whoever finishes the run writes ``done``. Only the first process of a distributed run writes.
    """
    first = is_first_process()

    def write_end(record: Record) -> None:
        with suppress(OSError, UserError):  # a worse mistake is on its way
            if first and not folder.finished():  # what is done stays so, whatever comes after
                folder.write(record)

    if first:
        folder.write(replace(origin, status=RUNNING))
    try:
        if first:
            write_atomically(folder.path / "config.yaml", lambda path: path.write_bytes(msgspec.yaml.encode(origin.config)))
        yield
    except KeyboardInterrupt:
        write_end(replace(origin, status=INTERRUPTED))
        raise
    except Exception as error:
        mistake = user_error(error)
        health = Health(highest_loss=math.inf) if isinstance(mistake, NotFiniteError) else origin.health
        told = {"reason": str(mistake or ""), "traceback": traceback.format_exc()}
        write_end(replace(origin, status=FAILED, health=health, **told))
        raise
