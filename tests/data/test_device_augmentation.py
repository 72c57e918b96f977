"""What the device makes of a cut is what albumentations makes of the image, and as often."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from exfuse.data.device_augmentation import BRIGHTNESS, CONTRAST, HUE, SATURATION, DeviceTransform, Drawn, Side, collate
from exfuse.data.transforms import TrainTransform
from exfuse.palette import VOID
from exfuse.store.folder import RunFolder

MEAN, STD = (0.45, 0.5, 0.4), (0.2, 0.25, 0.3)
CROP = 48
SIZES = [(48, 48), (37, 90), (120, 33), (30, 20), (97, 101)]


def transform(
    colour: float = 0.0, scale: tuple[float, float] = (0.5, 2.0), flip: float = 0.5, channels: int = 3
) -> DeviceTransform:
    return DeviceTransform(CROP, None, scale, flip, colour, (MEAN * 2)[:channels], (STD * 2)[:channels])


def sample(size: tuple[int, int], channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(size)
    image = cv2.resize(random.integers(0, 256, (9, 9, channels)).astype(np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    return image.reshape(*size, channels), random.integers(0, 5, size).astype(np.uint8)


def finished(one: DeviceTransform, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, Drawn]:
    """Values in [0, 255], (crop, crop, C)."""
    cut = one.cut(image, mask, seed, 0)
    batch: dict[str, Any] = one.finish(collate([cut]))
    values = 255 * (batch["image"][0] * one.std + one.mean)
    return values.numpy().transpose(1, 2, 0), batch["mask"][0].numpy(), cut["drawn"]


def by_opencv(one: DeviceTransform, image: np.ndarray, mask: np.ndarray, drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """The whole image scaled, padded, cropped and flipped step by step."""
    size = (drawn.columns.scaled, drawn.rows.scaled)
    image = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LINEAR).reshape(*size[::-1], -1)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    values = np.broadcast_to(255 * one.mean.numpy().ravel(), (CROP, CROP, image.shape[2])).copy()
    classes = np.full((CROP, CROP), VOID, np.uint8)
    (to_rows, rows), (to_columns, columns) = (
        (slice(max(0, -side.first), max(0, -side.first) + min(CROP, side.scaled)),
         slice(max(0, side.first), max(0, side.first) + min(CROP, side.scaled)))
        for side in (drawn.rows, drawn.columns)
    )  # fmt: skip
    values[to_rows, to_columns], classes[to_rows, to_columns] = image[rows, columns], mask[rows, columns]
    return (values[:, ::-1], classes[:, ::-1]) if drawn.flipped else (values, classes)


def between_two(side: Side, flipped: bool) -> np.ndarray:
    """Which pixels of a crop lie just between two of the image: OpenCV's fixed point numbers decide by chance there."""
    middle = (np.arange(CROP) + side.first + 0.5) * side.own / side.scaled
    ties = np.abs(middle - middle.round()) < 0.01
    return ties[::-1] if flipped else ties


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_cut_becomes_what_the_whole_image_would(size: tuple[int, int], channels: int) -> None:
    one, (image, mask) = transform(channels=channels), sample(size, channels)
    for seed in range(20):
        values, classes, drawn = finished(one, image, mask, seed)
        expected, expected_classes = by_opencv(one, image, mask, drawn)
        np.testing.assert_allclose(values, expected, atol=0.05)
        ties = between_two(drawn.rows, flipped=False)[:, None] | between_two(drawn.columns, drawn.flipped)
        np.testing.assert_array_equal(classes[~ties], expected_classes[~ties])


@pytest.mark.parametrize("step", [BRIGHTNESS, CONTRAST, SATURATION, HUE])
def test_each_change_of_colour_is_albumentations_own(step: int) -> None:
    import albumentations.augmentations.pixel.functional as functional

    names = [f"adjust_{name}_torchvision" for name in ("brightness", "contrast", "saturation", "hue")]
    image, mask = sample((CROP, CROP))
    one = transform(scale=(1, 1), flip=0)
    for factor in (0.7, 1.0, 1.25) if step != HUE else (-0.07, 0.0, 0.05):
        drawn = one.draw(image, 0)._replace(factors=tuple(factor if at == step else 9.0 for at in range(4)), order=(step,))
        drawn = drawn._replace(mean=float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean() / 255))
        cut = one.cut(image, mask, 0, 0) | {"drawn": drawn}
        values = 255 * (one.finish(collate([cut]))["image"][0] * one.std + one.mean).numpy().transpose(1, 2, 0)
        expected = getattr(functional, names[step])(image, factor)
        assert np.abs(values - expected).mean() < (1.5 if step == HUE else 0.75)  # which rounds, hue to 2 degrees


@pytest.mark.parametrize("size", [(48, 60), (30, 90)])
def test_scales_places_and_flips_are_as_frequent_as_albumentations_makes_them(size: tuple[int, int]) -> None:
    """An image whose channels tell rows and columns shows where a crop lies."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows, columns, np.full(size, 255)], axis=-1).astype(np.uint8)
    mask, device = np.zeros(size, np.uint8), transform()
    loader = TrainTransform(CROP, None, (0.5, 2.0), 0.5, 0.0, (0, 0, 0), (1, 1, 1))
    plain = DeviceTransform(CROP, None, (0.5, 2.0), 0.5, 0.0, (0, 0, 0), (1, 1, 1))
    found: dict[str, list[dict[str, float]]] = {"loader": [], "device": []}
    for seed in range(600):
        found["loader"].append(told(*loader(image, mask, seed)))
        batch = plain.finish(collate([plain.cut(image, mask, seed + 10_000, 0)]))
        found["device"].append(told(batch["image"][0], batch["mask"][0]))
    for what in found["loader"][0]:
        one, other = ([each[what] for each in found[name]] for name in ("loader", "device"))
        assert ks_2samp(one, other).pvalue > 1e-3, what
    flips = [Counter(each["flipped"] for each in found[name])[1.0] / 600 for name in ("loader", "device")]
    assert abs(flips[0] - flips[1]) < 0.1
    assert device.flip == 0.5


def told(image: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """Where a crop lies in its image and in its padding, how much it was scaled, whether it was flipped."""
    inside = mask != VOID
    rows, columns = inside.any(1).nonzero().ravel(), inside.any(0).nonzero().ravel()
    middle = columns[len(columns) // 2]
    row, column = ((255 * line).round() for line in (image[0, rows, middle], image[1, rows[len(rows) // 2], columns]))
    return {
        "top": float(row[0]),
        "scale": float((row[-1] - row[0]) / len(rows)),
        "left": float(column.min()),
        "padding above": float(rows[0]),
        "padding beside": float(columns[0]),
        "flipped": float(column[0] > column[-1]),
    }


def test_colours_change_as_often_and_as_much() -> None:
    image, mask = sample((CROP, CROP))
    loader = TrainTransform(CROP, None, (1, 1), 0.0, 0.3, MEAN, STD)
    device = transform(0.3, (1, 1), 0.0)
    for measure in (torch.mean, torch.std):
        one = [round(float(measure(loader(image, mask, seed)[0])), 2) for seed in range(400)]
        batches = [device.finish(collate([device.cut(image, mask, seed + 999, 0)])) for seed in range(400)]
        other = [round(float(measure(batch["image"])), 2) for batch in batches]
        assert ks_2samp(one, other).pvalue > 1e-3
        assert abs(np.std(one) / np.std(other) - 1) < 0.2


def test_a_sample_depends_on_its_seed_alone() -> None:
    one, (image, mask) = transform(0.3), sample((97, 101))
    first = one.finish(collate([one.cut(image, mask, seed, 0) for seed in (3, 4)]))
    again = one.finish(collate([one.cut(image, mask, seed, 0) for seed in (4,)]))
    assert torch.equal(first["image"][1], again["image"][0])
    assert torch.equal(first["mask"][1], again["mask"][0])
    assert not torch.equal(first["image"][0], first["image"][1])


def test_a_training_is_the_same_whoever_cuts(
    train_small: Callable[..., RunFolder], finished_run: RunFolder, tmp_path: Path
) -> None:
    ablation, device = "+ablation=seb_ecre", "runtime.augment=device"
    runs = [train_small(ablation, device, f"runtime.workers={workers}", runs=tmp_path / f"{workers}") for workers in (0, 1)]
    one, other = (run.record() for run in runs)
    assert one is not None
    assert other is not None
    assert one.key == other.key != finished_run.key
    assert one.confusion_sha256 == other.confusion_sha256
    assert one.scores.miou > 0
