"""Score a model on a split: one device, one image at a time, every image exactly once."""

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.utils.data import DataLoader

from src.data.dataset import SegmentationDataset
from src.metrics.confusion import confusion_counts
from src.models.segmenter import Segmenter
from src.tasks.segmentation import predict_ids


@torch.inference_mode()
def score(model: Segmenter, dataset: SegmentationDataset, device: torch.device) -> NDArray[np.int64]:
    """Confusion counts of each image, at its native size, in float32.

    Args:
        model: moved to ``device`` and left in evaluation mode.
        dataset: with an `src.data.transforms.EvalTransform`.
        device: where to run.

    Returns:
        (images, C, C) int64 in the split's order, row = true class, column = predicted class.
    """
    classes = len(dataset.split.classes)
    per_image = np.zeros((len(dataset), classes, classes), dtype=np.int64)
    model.to(device).eval()
    loader = DataLoader(dataset, batch_size=1, num_workers=2)
    for batch in track(loader, description=f"Scoring {dataset.split.name}", transient=True):
        mask = batch["mask"].to(device)
        ids = predict_ids(model, batch["image"].to(device), mask.shape[-2:])
        per_image[int(batch["position"])] = confusion_counts(ids, mask, classes).cpu().numpy()
    return per_image
