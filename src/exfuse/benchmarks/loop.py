"""How much of the bare training step's rate a whole epoch of `fit` keeps, with data, transforms, logging and checkpoints."""

import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from msgspec.structs import replace
from pytorch_lightning.callbacks import Callback

from exfuse.benchmarks.report import Measurement, hold
from exfuse.composition.common import on_gpu
from exfuse.composition.precision import resolve_precision
from exfuse.composition.segmentation import build_data, build_model, build_task
from exfuse.config.overrides import describe_run
from exfuse.data.segmentation import SegmentationData
from exfuse.data.split import Split
from exfuse.process import loader_workers
from exfuse.runs.backbones import resolve_normalisation
from exfuse.runs.fitting import build_trainer, fit, prepare_process
from exfuse.runs.plan import plan_run
from exfuse.runs.step import TrainingStep
from exfuse.store.description import RunDescription, to_plain
from exfuse.store.record import RUNNING, Record
from exfuse.tasks.segmentation import SegmentationTask
from exfuse.timing import now

_TARGET = 0.95  # of the bare step's rate
_EPOCHS = 4  # the first is not counted: it starts the workers, fills the cache and warms the allocator
_EPOCHS_WITHOUT_TARGET = 3
_BARE_STEPS = {"cpu": 15, "cuda": 300}  # a second or more
_EPOCH_STEPS = {"cpu": 1, "cuda": 500}  # at least: a GPU is through with a few hundred images before its loop is warm


class EpochRates(NamedTuple):
    """Images a second of whole epochs and of the bare steps right before and after each."""

    epochs: list[float]
    bare: list[float]

    @property
    def ratio(self) -> float:
        """Median over epochs of the epoch's rate to the mean of the bare rates around it: a drift of the machine cancels."""
        around = zip(self.epochs, self.bare, self.bare[1:], strict=False)
        return statistics.median(epoch / statistics.mean(bare) for epoch, *bare in around)


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """A whole epoch against the bare step, by kind of image cache; the recipe's own cache bears the target."""
    data, images = _choose_data()
    measurements = []
    for cache, target in (("auto", f">= {_TARGET}"), ("disk", ""), ("none", "")):
        progress(f"epochs of fit with runtime.cache={cache} against the bare step")
        run = resolve_precision(_compose(device, data, f"runtime.cache={cache}"))
        rates = measure_epochs(run, _EPOCHS if target else _EPOCHS_WITHOUT_TARGET)
        how = f"{run.trainer.precision}, {loader_workers(run.runtime.workers)} workers"
        measured = hold(
            f"epoch of fit / bare step, cache={cache}",
            statistics.median(rates.epochs),
            statistics.median(rates.bare),
            "images/s",
            details=f"{images}, tiny ResNet, baseline, recipe=small (batch 8, 192x192), {how}; median of the epochs' ratios",
        )
        met = not target or rates.ratio >= _TARGET  # of what drifted together, which their medians hide
        measurements.append(replace(measured, ratio=rates.ratio, target=target, met=met))
    return measurements


def measure_epochs(run: RunDescription, epochs: int) -> EpochRates:
    """Train through the project's own code path, timing each epoch after the first, and bare steps between the epochs.

    An epoch is everything from the end of the one before to its own: waiting for data, logging, progress bar and the
    checkpoint that is written in between. Validation is left out.

    Args:
        run: to train.
        epochs: how many to train, at least two.
    """
    trainer = replace(run.trainer, max_epochs=epochs, check_val_every_n_epoch=epochs + 1, num_sanity_val_steps=0)
    with tempfile.TemporaryDirectory() as scratch:
        prepare_process(run, run.seed)
        run, folder, splits, _ = plan_run(replace(run, trainer=trainer, paths=replace(run.paths, runs=scratch)))
        run = resolve_normalisation(run)
        kind = "cuda" if on_gpu(run) else "cpu"
        data = build_data(run, _repeated(splits["train"], _EPOCH_STEPS[kind] * run.recipe.batch_size), splits["val"])
        task, other = (build_task(run, build_model(run, len(data.classes)), data.classes, len(data.val_set)) for _ in range(2))
        watch = _Watch(_BareStep(other.to(kind), run, data), run.recipe.batch_size)
        origin = Record(key=folder.key, status=RUNNING, label="baseline", seed=run.seed, config=to_plain(run))
        fit(build_trainer(run, folder, origin, "train", monitor="val/miou", extra=[watch]), task, data, folder)
    return EpochRates(watch.epochs, watch.bare)


class _BareStep(TrainingStep):
    """Steps on batches that are already where the model is."""

    def __init__(self, task: SegmentationTask, run: RunDescription, data: SegmentationData) -> None:
        super().__init__(task, run, run.recipe.batch_size)
        places = [place % len(data.train_set) for place in range(3 * self.images)]
        self.batches = [
            data.train_batch(places[first : first + self.images], self.device) for first in range(0, len(places), self.images)
        ]

    def rate(self) -> float:
        """Images a second of a block of steps."""
        steps, started = _BARE_STEPS[self.device.type], now(self.device)
        for number in range(steps):
            self.batch = self.batches[number % len(self.batches)]  # type: ignore[assignment]
            self()
        return steps * self.images / (now(self.device) - started)


class _Watch(Callback):
    """Times epochs, and steps without data or loop while no worker has anything to do."""

    def __init__(self, bare: _BareStep, batch_size: int) -> None:
        self.bare_step, self.batch_size = bare, batch_size
        self.epochs: list[float] = []
        self.bare: list[float] = []
        self._started: float | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        ended = now(trainer.strategy.root_device)
        if self._started is not None:
            self.epochs.append(int(trainer.num_training_batches) * self.batch_size / (ended - self._started))
        else:
            self.bare_step.rate()  # its own warm-up
        with torch.enable_grad():
            self.bare.append(self.bare_step.rate())
        self._started = now(trainer.strategy.root_device)  # Lightning writes checkpoints after this: the next epoch pays


def _repeated(split: Split, images: int) -> Split:
    """The split, its images listed again and again until there are so many."""
    return replace_fields(split, items=split.items * -(-images // len(split)))


def _choose_data() -> tuple[str, str]:
    """The option of conf/data and what to call it: the animal photographs where VOC_ANIMALS says they are."""
    if Path(os.environ.get("VOC_ANIMALS", "data/voc_animals/VOCdevkit/VOC2012")).is_dir():
        return "voc_animals", "437 photographs of VOC animals"
    return "scenes", "generated scenes (VOC_ANIMALS names no folder)"


def _compose(device: str, data: str, *overrides: str) -> RunDescription:
    trainer = "gpu" if device == "cuda" else "cpu"
    return describe_run(
        [
            *("+ablation=baseline", f"data={data}", "recipe=small", f"trainer={trainer}", "backbone.init=random"),
            *("runtime.channels_last=true", *overrides),  # the bare steps' too
        ]
    )
