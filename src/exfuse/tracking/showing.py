"""What trackers show: a run's end, predictions while it trains, and norms of gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.subsets import spread_evenly
from exfuse.models.segmenter import Segmenter
from exfuse.store.checked import plain
from exfuse.store.costs import Costs
from exfuse.store.record import Scores
from exfuse.tasks.prediction import EvaluationProtocol, PredictedImage, predict_split
from exfuse.tasks.segmentation import SegmentationTask, gradient_norms, predict_ids
from exfuse.tracking.tracker import Tracker, trackers_of


def show_scores(
    trackers: Sequence[Tracker],
    scores: Scores,
    costs: Costs | None,
    model: Segmenter,
    dataset: SegmentationDataset,
    device: torch.device,
    decide: EvaluationProtocol = predict_ids,
) -> None:
    """Final scores, costs, confusion and pictures of a segmentation. Without a tracker nothing is computed.

    Args:
        trackers: that show the run.
        scores: of the final weights.
        costs: None if nothing was measured.
        model: left in evaluation mode.
        dataset: that was scored.
        device: where to predict.
        decide: the protocol by which it was scored.
    """
    if not trackers:
        return
    positions = spread_evenly(len(dataset), max(tracker.examples for tracker in trackers))
    examples = list(predict_split(model, dataset, positions, device, decide))
    show_outcome(trackers, scores, costs, examples)


def show_outcome(trackers: Sequence[Tracker], scores: Scores, costs: Costs | None, examples: Sequence[PredictedImage]) -> None:
    """See `show_scores`; with pictures that are known already, or none."""
    for tracker in trackers:
        tracker.summarise(outcome_values(scores, costs))  # first: tables are what a lost network may hold up
        tracker.log_outcome(np.array(scores.confusion), examples[: tracker.examples], [*scores.iou])


def outcome_values(scores: Scores, costs: Costs | None) -> dict[str, float]:
    """What trackers keep as a run's summary: ``final/miou``, ``final/iou/CLASS``, ``cost/gigamacs`` and so on."""
    values = _numbers("final", plain(scores))
    values |= {f"final/iou/{name}": value for name, value in scores.iou.items() if value is not None}
    return values | _numbers("cost", plain(costs) if costs else {})


def show_accuracy(trackers: Sequence[Tracker], accuracy: Mapping[str, float], costs: Mapping[str, Any]) -> None:
    """Final accuracy of a pretraining's head and branches, and its costs."""
    values = {f"final/accuracy_{name}": value for name, value in accuracy.items()}
    for tracker in trackers:
        tracker.summarise(values | _numbers("cost", costs))


def _numbers(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items() if isinstance(value, (int, float))}


# Val images with a model's predictions, shown to a tracker while it trains.


class ExamplePictures(Callback):
    """Show a tracker some val images with truth and prediction while a segmentation trains.

    Args:
        number: of images.
        every: validations between two showings; the final pictures come from the final weights.
    """

    def __init__(self, number: int, every: int) -> None:
        self.number, self.every = number, every

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # counted from the run's beginning, so that a resumed run shows what one that never stopped would
        validation = (trainer.current_epoch + 1) // (trainer.check_val_every_n_epoch or 1)
        if trainer.sanity_checking or validation % self.every or not trainer.is_global_zero:
            return
        assert isinstance(module, SegmentationTask)
        dataset = trainer.datamodule.val_set  # type: ignore[attr-defined]
        positions = spread_evenly(len(dataset), self.number)
        examples = list(predict_split(module.model, dataset, positions, module.device))
        for tracker in trackers_of(trainer.loggers):
            if tracker.examples:
                tracker.log_examples(examples[: tracker.examples], module.classes, trainer.global_step)


# Norms of gradients, by part of the model, as curves.


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
        norms = gradient_norms(module.get_submodule("model"), 1.0)
        values = {f"gradients/{name}": norm for name, norm in norms.items()}
        values["gradients/all"] = sum(value**2 for value in values.values()) ** 0.5
        for logger in trainer.loggers:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=trainer.global_step)
