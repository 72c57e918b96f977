"""What a finished run leaves: scores, confusion counts, tables and pictures."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from src.analysis.console import per_class_table
from src.analysis.pictures import save_comparison
from src.data.dataset import SegmentationDataset
from src.data.split import read_image, read_mask
from src.metrics.iou import iou_per_class, mean_iou, pixel_accuracy
from src.models.segmenter import Segmenter
from src.runs.files import sha256, write_atomically
from src.runs.folder import COUNTS, RunFolder
from src.tasks.scoring import score
from src.tasks.segmentation import predict_ids

_PICTURES = 6


def report_outcome(
    folder: RunFolder, origin: dict[str, Any], model: Segmenter, dataset: SegmentationDataset, device: torch.device
) -> dict[str, Any]:
    """Score the last weights on one device and write everything the run leaves; the record, saying done, comes last."""
    per_image = score(model, dataset, device)
    write_scores(folder.path, per_image, dataset)
    save_examples(folder.path / "predictions.png", model, dataset, origin["label"], device)
    scores, counted = summarise(per_image, dataset), sha256(folder.path / COUNTS)
    return folder.write_record("done", **origin, scores=scores, confusion_sha256=counted)


def write_scores(path: Path, per_image: NDArray[np.int64], dataset: SegmentationDataset) -> None:
    """Write the per-image confusion counts and ``per_class.csv`` into the folder ``path``."""
    ids = np.array([item.id for item in dataset.split.items])
    write_atomically(path / COUNTS, lambda file: np.savez_compressed(file, counts=per_image.astype(np.int32), ids=ids))
    write_atomically(path / "per_class.csv", lambda file: _write_csv(file, per_image.sum(0), dataset.split.classes))


def summarise(per_image: NDArray[np.int64], dataset: SegmentationDataset) -> dict[str, Any]:
    """Scores as plain data; IoU is None for a class that the truth does not hold."""
    counts = per_image.sum(0)
    scores = iou_per_class(counts)
    return {
        "miou": float(mean_iou(counts)),
        "pixel_accuracy": float(pixel_accuracy(counts)),
        "iou": {
            name: float(value) if np.isfinite(value) else None
            for name, value in zip(dataset.split.classes, scores, strict=True)
        },
        "images": len(per_image),
        "confusion": counts.tolist(),
    }


def show_outcome(folder: RunFolder, record: dict[str, Any], console: Console) -> None:
    """Print the per-class table of a finished run and where its files are."""
    scores = record["scores"]
    title = f"{record['label']}, seed {record['seed']}: {record['config']['data']['name']} val, {scores['images']} images"
    if record["config"]["backbone"]["init"] == "random":
        title += " (backbone from random weights)"
    console.print(per_class_table(np.array(scores["confusion"]), list(scores["iou"]), title))
    console.print(f"Run folder: {folder.path}  (predictions.png shows examples)")


@torch.inference_mode()
def save_examples(
    path: Path, model: Segmenter, dataset: SegmentationDataset, name: str, device: torch.device, number: int = _PICTURES
) -> None:
    """Draw images spread evenly over the split beside their truth and the model's prediction."""
    positions = np.unique(np.linspace(0, len(dataset) - 1, number).round().astype(int))
    items = [dataset.split.items[position] for position in positions]
    truths = [read_mask(item.mask, len(dataset.split.classes), dataset.split.void_ids) for item in items]
    model.to(device).eval()
    predictions = [
        predict_ids(model, dataset[int(position)]["image"][None].to(device), truth.shape)[0].byte().cpu().numpy()
        for position, truth in zip(positions, truths, strict=True)
    ]
    images = [read_image(item.image) for item in items]
    save_comparison(path, images, truths, {name: predictions}, dataset.split.classes)


def _write_csv(path: Path, counts: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "iou", "true_pixels"])
        for name, value, pixels in zip(classes, iou_per_class(counts), counts.sum(1), strict=True):
            writer.writerow([name, f"{value:.6f}" if np.isfinite(value) else "absent", int(pixels)])
