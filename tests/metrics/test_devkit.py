"""mIoU is the VOC benchmark's: against the devkit's measure, written again, on real masks where there are some."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exfuse.metrics.iou import iou_per_class, mean_iou
from exfuse.tasks.confusion import confusion_counts
from tests.metrics.devkit import devkit_accuracies

VOID = 255


def disturb(mask: np.ndarray, seed: int, classes: int) -> np.ndarray:
    """A result that errs as networks do: shifted, with blobs of other classes; it says something in void too."""
    rng = np.random.default_rng(seed)
    result = np.roll(mask, tuple(rng.integers(-6, 7, 2)), (0, 1))
    result[result == VOID] = 0
    for _ in range(4):
        row, column = (rng.integers(0, side) for side in mask.shape)
        result[row : row + 40, column : column + 60] = rng.integers(0, classes)
    return result


def check(masks: list[np.ndarray], classes: int, absent: bool) -> None:
    pairs = [(disturb(mask, seed, classes), mask) for seed, mask in enumerate(masks)]
    expected = np.array(devkit_accuracies(pairs, classes))
    counts = sum(
        confusion_counts(torch.from_numpy(result.astype(np.int64)), torch.from_numpy(mask), classes) for result, mask in pairs
    ).numpy()
    present = counts.sum(1) > 0
    assert present.sum() > 3
    assert absent == (not present.all())
    np.testing.assert_allclose(100 * iou_per_class(counts)[present], expected[present], rtol=0, atol=1e-9)
    # On VOC's val every class is there. Where one is not, the devkit gives it 0 if it is predicted, and nothing if it is not.
    assert abs(100 * float(mean_iou(counts)) - expected[present].mean()) < 1e-9
    assert abs(100 * float(mean_iou(counts, devkit=True)) - np.nanmean(expected)) < 1e-9
    assert (np.nanmean(expected) < expected[present].mean()) == absent


@pytest.mark.parametrize("absent", [[], [3, 20]], ids=["all there", "two absent"])
def test_equals_the_devkit_on_made_masks(absent):
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(12):
        coarse = rng.choice([label for label in (*range(21), VOID) if label not in absent], (10, 14)).astype(np.uint8)
        masks.append(coarse.repeat(25, 0).repeat(25, 1))
    check(masks, 21, absent=bool(absent))


def test_equals_the_devkit_on_masks_of_voc(real_data: Path):
    folder = real_data / "voc_animals" / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    files = sorted(folder.glob("*.png"))[::12]
    if not files:
        pytest.skip(f"no masks in {folder}")
    masks = [np.array(Image.open(path)) for path in files]
    check(masks, 21, absent=len(set(np.concatenate([np.unique(mask) for mask in masks])) - {VOID}) < 21)
