"""What a finished run leaves: scores, confusion counts, tables and pictures."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from exfuse.analysis.console import per_class_table
from exfuse.analysis.pictures import save_comparison
from exfuse.data.dataset import SegmentationDataset
from exfuse.files import sha256, write_atomically
from exfuse.metrics.detail import EDGE_RADIUS
from exfuse.metrics.iou import iou_per_class, mean_iou, pixel_accuracy
from exfuse.models.segmenter import Segmenter
from exfuse.store.folder import COUNTS, DETAIL, RunFolder
from exfuse.tasks.protocols import EvaluationProtocol
from exfuse.tasks.scoring import Scores, score
from exfuse.tasks.segmentation import predict_ids
from exfuse.tracking.example_pictures import predict_examples

_PICTURES = 6


def report_outcome(
    folder: RunFolder,
    origin: dict[str, Any],
    model: Segmenter,
    dataset: SegmentationDataset,
    device: torch.device,
    workers: int,
) -> dict[str, Any]:
    """Score the last weights on one device and write everything the run leaves; the record, saying done, comes last.

    A run's own score is that of the single scale at native size, whatever else it is evaluated with later.
    """
    scored = score(model, dataset, device, workers)
    write_scores(folder.path, scored, dataset)
    save_examples(folder.path / "predictions.png", model, dataset, origin["label"], device)
    hashes = {"confusion_sha256": sha256(folder.path / COUNTS), "boundary_sha256": sha256(folder.path / DETAIL)}
    return folder.write_record("done", **origin, scores=summarise(scored, dataset), **hashes)


def write_scores(path: Path, scored: Scores, dataset: SegmentationDataset) -> None:
    """Write the per-image counts, the per-image areas near borders and ``per_class.csv`` into the folder ``path``."""
    ids = np.array([item.id for item in dataset.split.items])
    counts, detail = scored
    areas = {name: area.astype(np.int32) for name, area in detail.areas._asdict().items()}
    radii = np.array(detail.radii)
    write_atomically(path / COUNTS, lambda file: np.savez_compressed(file, counts=counts.astype(np.int32), ids=ids))
    write_atomically(path / DETAIL, lambda file: np.savez_compressed(file, radii=radii, ids=ids, **areas))
    write_atomically(path / "per_class.csv", lambda file: _write_csv(file, scored, dataset.split.classes))


def summarise(scored: Scores, dataset: SegmentationDataset) -> dict[str, Any]:
    """Scores as plain data; IoU is None for a class that the truth does not hold."""
    counts = scored.counts.sum(0)
    scores = iou_per_class(counts)
    return {
        "miou": float(mean_iou(counts)),
        "pixel_accuracy": float(pixel_accuracy(counts)),
        "iou": {
            name: float(value) if np.isfinite(value) else None
            for name, value in zip(dataset.split.classes, scores, strict=True)
        },
        "detail": scored.detail.summary(),
        "images": len(scored.counts),
        "confusion": counts.tolist(),
    }


def show_outcome(folder: RunFolder, record: dict[str, Any], console: Console) -> None:
    """Print the per-class table of a finished run and where its files are."""
    scores = record["scores"]
    title = f"{record['label']}, seed {record['seed']}: {record['config']['data']['name']} val, {scores['images']} images"
    if record["config"]["backbone"]["init"] == "random" and "init_from" not in record:
        title += " (backbone from random weights)"
    console.print(per_class_table(np.array(scores["confusion"]), list(scores["iou"]), title))
    console.print(f"Run folder: {folder.path}  (predictions.png shows examples)")


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
    examples = predict_examples(model, dataset, device, number, decide)
    images, truths = [example.image for example in examples], [example.truth for example in examples]
    save_comparison(path, images, truths, {name: [example.prediction for example in examples]}, dataset.split.classes)


def _write_csv(path: Path, scored: Scores, classes: tuple[str, ...]) -> None:
    counts, detail = scored.counts.sum(0), scored.detail
    parts = [area.total().iou() for area in (detail.interior(EDGE_RADIUS), detail.band(EDGE_RADIUS), detail.boundary)]
    names = ["class", "iou", "true_pixels", f"interior_iou_{EDGE_RADIUS}px", f"edge_iou_{EDGE_RADIUS}px", "boundary_iou"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for name, value, pixels, *rest in zip(classes, iou_per_class(counts), counts.sum(1), *parts, strict=True):
            writer.writerow([name, _share(value), int(pixels), *map(_share, rest)])


def _share(value: float) -> str:
    return f"{value:.6f}" if np.isfinite(value) else "absent"
