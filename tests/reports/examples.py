"""Examples and histories for a made-up study, written as gathering writes them."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfuse.store.examples import ExampleImage, Examples, write_ids, write_image
from exfuse.store.folder import RunFolder
from tests.analysis.synthetic import CLASSES, IMAGES

SIZE = (48, 36)  # width, height
SHOWN = 6  # images, every second one


def add_examples(folder: Path, runs: list[RunFolder], size: tuple[int, int] = SIZE) -> Examples:
    """Examples of ``runs`` in the study ``folder``: a boat on the left, a cart below; runs miss some of it."""
    noise = np.random.default_rng(0)
    images = tuple(ExampleImage(f"image{2 * place:04d}", f"{2 * place:05d}", *size) for place in range(SHOWN))
    found = Examples(
        folder=folder / "examples",
        data="generated scenes",
        manifest="b" * 64,
        classes=CLASSES,
        long_side=320,
        images=images,
    )
    for place, image in enumerate(images):
        truth = truth_of(place, size)
        pixels = noise.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        write_image(found.image(image), pixels, size)
        write_ids(found.truth(image), truth, size, CLASSES)
        for turn, run in enumerate(runs):
            write_ids(found.prediction(image, run.key), predicted(truth, turn), size, CLASSES)
    for run in runs:
        found = found.with_run(run.key, run.record())  # type: ignore[arg-type]
    assert 2 * SHOWN <= IMAGES
    return found


def truth_of(place: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    truth = np.zeros((size[1], size[0]), np.uint8)
    truth[:, : 4 + 3 * place] = 1
    truth[-6:, -10:] = 2
    truth[0] = 255
    return truth


def predicted(truth: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """The truth with a column block of ``turn`` pixels wrong and no void."""
    ids = np.where(truth == 255, 0, truth).astype(np.uint8)
    ids[:, 20 : 20 + turn] = 2
    return ids


def add_history(folder: RunFolder, quality: float, starts: int = 1) -> None:
    """The CSV logs of a run with one or more starts, in the run's folder."""
    steps = list(range(9, 90, 10))
    for start in range(starts):
        path = folder.path / "logs" / f"version_{start}" / "metrics.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "lr-AdamW/decoder", "step", "train/loss", "val/miou"])
            for step in steps[start * 3 :]:
                writer.writerow(["", 0.01 / (1 + step), step, "", ""])
                writer.writerow([step // 30, "", step, 3 - quality * step / 100, ""])
                if step % 30 == 29:
                    writer.writerow([step // 30, "", step, "", quality * step / 100])
