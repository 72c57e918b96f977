"""What trackers without a viewer of masks show: an image beside its masks in colours, and scores as a table of text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exfuse.analysis.formats.markdown import escape, table_lines
from exfuse.metrics.iou import iou_per_class
from exfuse.palette import class_palette
from exfuse.tasks.prediction import WRONG, PredictedImage

_SIDE, _GAP = 384, 4  # pixels: the longest side of an image (chosen), and between two
_RED = (214, 39, 40)


def strip(example: PredictedImage, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Image, truth, prediction and errors side by side, (H, 4 W and gaps, 3) uint8; errors are red over the darkened image."""
    small, palette = example.at_most(_SIDE), class_palette(classes)
    wrong = (small.errors() == WRONG)[..., None]
    errors = np.where(wrong, np.array(_RED, np.uint8), small.image // 3)
    parts = [small.image, palette[small.truth], palette[small.prediction], errors]
    gap = np.full((small.image.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([part for each in parts for part in (each, gap)][:-1], axis=1).astype(np.uint8)


def class_scores_table(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """IoU and labelled pixels of each class in Markdown, from confusion counts (C, C), row = true class."""
    iou = iou_per_class(counts)
    rows = [
        (escape(name), "" if np.isnan(value) else f"{100 * value:.1f}", str(pixels))
        for name, value, pixels in zip(classes, iou, counts.sum(1), strict=True)
    ]
    mean = ("mean", f"{100 * np.nanmean(iou):.1f}", "")
    return "\n".join(table_lines(("class", "IoU %", "true pixels"), [*rows, mean], ("---", "---:", "---:")))
