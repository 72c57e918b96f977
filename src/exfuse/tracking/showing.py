"""What trackers show of a run's end."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.split import spread_evenly
from exfuse.models.segmenter import Segmenter
from exfuse.store.checked import plain
from exfuse.store.costs import Costs
from exfuse.store.record import Scores
from exfuse.tasks.prediction import EvaluationProtocol, predict_split
from exfuse.tasks.segmentation import predict_ids
from exfuse.tracking.tracker import Tracker


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
    classes = dataset.split.classes
    values: dict[str, Any] = {f"final/{name}": getattr(scores, name) for name in ("miou", "pixel_accuracy", "images")}
    values |= {f"final/iou/{name}": value for name, value in scores.iou.items() if value is not None}
    for tracker in trackers:
        # first: tables are what a lost network may hold up
        tracker.summarise(values | _numbers("cost", plain(costs) if costs else {}))
        tracker.log_outcome(np.array(scores.confusion), examples, classes)


def show_accuracy(trackers: Sequence[Tracker], accuracy: Mapping[str, float], costs: Mapping[str, Any]) -> None:
    """Final accuracy of a pretraining's head and branches, and its costs."""
    values = {f"final/accuracy_{name}": value for name, value in accuracy.items()}
    for tracker in trackers:
        tracker.summarise(values | _numbers("cost", costs))


def _numbers(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items() if isinstance(value, (int, float))}
