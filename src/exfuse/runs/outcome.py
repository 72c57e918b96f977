"""What a finished run leaves: scores, confusion counts, tables and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace

from exfuse.analysis.pictures import save_comparison
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.subsets import spread_evenly
from exfuse.files import sha256, write_atomically, write_csv
from exfuse.limits import Workers
from exfuse.metrics.boundary_areas import EDGE_RADIUS
from exfuse.metrics.iou import Areas, iou_per_class
from exfuse.models.segmenter import Segmenter
from exfuse.store.folder import BOUNDARY, COUNTS, RunFolder
from exfuse.store.record import DONE, BoundaryScores, Record, Scores
from exfuse.tasks.prediction import EvaluationProtocol, predict_split
from exfuse.tasks.scoring import ScoredImages, score_images
from exfuse.tasks.segmentation import predict_ids

_PICTURES = 6


def report_outcome(
    folder: RunFolder,
    origin: Record,
    model: Segmenter,
    dataset: SegmentationDataset,
    device: torch.device,
    workers: Workers,
) -> Record:
    """Score the last weights on one device and write everything the run leaves; the record, saying done, comes last.

    A run's own score is that of the single scale at native size, whatever else it is evaluated with later.
    """
    scored = score_images(model, dataset, device, workers)
    save_examples(folder.path / "predictions.png", model, dataset, origin.title, device)
    write_scores(folder.path, scored, dataset)  # which a record of before no longer describes
    hashes = {"confusion_sha256": sha256(folder.path / COUNTS), "boundary_sha256": sha256(folder.path / BOUNDARY)}
    return folder.write(replace(origin, status=DONE, scored=total_scores(scored, dataset), **hashes))


def write_scores(path: Path, scored: ScoredImages, dataset: SegmentationDataset) -> None:
    """Write the per-image counts, the per-image areas near borders and ``per_class.csv`` into the folder ``path``.

    Beside the counts lie the images' names and, where images are not independent, their groups.
    """
    ids = np.array([item.id for item in dataset.split.items])
    counts, near = scored
    areas = {name: area.astype(np.int32) for name, area in near.areas._asdict().items()}
    radii = np.array(near.radii)
    grouping = dataset.split.grouping
    found: dict[str, Any] = {"counts": counts.astype(np.int32), "ids": ids}
    if not grouping.alone:
        found |= {"groups": np.array(grouping.groups), "ordered": np.array(grouping.ordered)}
    write_atomically(path / COUNTS, lambda file: np.savez_compressed(file, **found))
    write_atomically(path / BOUNDARY, lambda file: np.savez_compressed(file, radii=radii, ids=ids, **areas))
    _write_by_class(path / "per_class.csv", scored, dataset.split.classes)


def total_scores(scored: ScoredImages, dataset: SegmentationDataset) -> Scores:
    """Scores over all images; IoU is None for a class that the truth does not hold."""
    boundary = BoundaryScores(**scored.areas.summary())
    return Scores.of(Areas.of_counts(scored.counts), dataset.split.classes, scored.counts.sum(0), boundary)


def save_examples(
    path: Path,
    model: Segmenter,
    dataset: SegmentationDataset,
    name: str,
    device: torch.device,
    number: int = _PICTURES,
    decide: EvaluationProtocol = predict_ids,
) -> None:
    """Draw images spread evenly over the split beside their truth and the model's prediction by the protocol ``decide``."""
    examples = list(predict_split(model, dataset, spread_evenly(len(dataset), number), device, decide))
    images, truths = [example.image for example in examples], [example.truth for example in examples]
    save_comparison(path, images, truths, {name: [example.prediction for example in examples]}, dataset.split.classes)


def _write_by_class(path: Path, scored: ScoredImages, classes: tuple[str, ...]) -> None:
    counts, areas = scored.counts.sum(0), scored.areas
    parts = [part.total().iou() for part in areas.parts(EDGE_RADIUS).values()]
    names = ["class", "iou", "true_pixels", f"interior_iou_{EDGE_RADIUS}px", f"edge_iou_{EDGE_RADIUS}px", "boundary_iou"]
    by_class = zip(classes, iou_per_class(counts), counts.sum(1), *parts, strict=True)
    write_csv(
        path, [names, *([name, _share(value), int(pixels), *map(_share, rest)] for name, value, pixels, *rest in by_class)]
    )


def _share(value: float) -> str:
    return f"{value:.6f}" if np.isfinite(value) else "absent"
