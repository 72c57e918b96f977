"""What mirrors show of a run's end."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from exfuse.data.dataset import SegmentationDataset
from exfuse.models.segmenter import Segmenter
from exfuse.tasks.protocols import EvaluationProtocol
from exfuse.tasks.segmentation import predict_ids
from exfuse.tracking.example_pictures import predict_examples
from exfuse.tracking.tracker import Mirror


def show_scores(
    mirrors: Sequence[Mirror],
    scores: Mapping[str, Any],
    costs: Mapping[str, Any],
    model: Segmenter,
    dataset: SegmentationDataset,
    device: torch.device,
    decide: EvaluationProtocol = predict_ids,
) -> None:
    """Final scores, costs, confusion and pictures of a segmentation. Without a mirror nothing is computed.

    Args:
        mirrors: that show the run.
        scores: as `exfuse.runs.outcome.summarise` gives them.
        costs: as `exfuse.runs.costs.describe_costs` gives them; empty if nothing was measured.
        model: left in evaluation mode.
        dataset: that was scored.
        device: where to predict.
        decide: the protocol by which it was scored.
    """
    if not mirrors:
        return
    examples = predict_examples(model, dataset, device, max(mirror.examples for mirror in mirrors), decide)
    classes = dataset.split.classes
    values = {"final/miou": scores["miou"], "final/pixel_accuracy": scores["pixel_accuracy"], "final/images": scores["images"]}
    values |= {f"final/iou/{name}": value for name, value in scores["iou"].items() if value is not None}
    for mirror in mirrors:
        mirror.summarise(values | _numbers("cost", costs))  # first: tables are what a lost network may hold up
        mirror.log_outcome(np.array(scores["confusion"]), examples, classes)


def show_accuracy(mirrors: Sequence[Mirror], accuracy: Mapping[str, float], costs: Mapping[str, Any]) -> None:
    """Final accuracy of a pretraining's head and branches, and its costs."""
    values = {f"final/accuracy_{name}": value for name, value in accuracy.items()}
    for mirror in mirrors:
        mirror.summarise(values | _numbers("cost", costs))


def _numbers(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items() if isinstance(value, (int, float))}
