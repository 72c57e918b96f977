"""Result files as other code would write them."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from exfuse.importing.command import import_study
from exfuse.store.study import Study
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import make_counts

CLASSES = ["sky", "boat", "cart", "ghost"]
DICE = {"name": "Dice", "unit": "fraction", "better": "higher"}
IMAGES = [f"image{number:02d}" for number in range(12)]


def import_folder(folder: Path, output: Path, drawn: bool = False, **more: Any) -> Study:
    """The study that the command makes of a folder; its tables and figures, which take time, only if ``drawn``."""
    usual: dict[str, Any] = {
        **dict.fromkeys(("name", "title", "dataset", "baseline", "metric_name", "metric_unit", "metric_better")),
        **{f"columns_{name}": name for name in ("row", "seed", "image", "score", "group")},
        **{"missing": "refuse", "mixed": False, "quiet": True},
    }
    with nullcontext() if drawn else patch("exfuse.analysis.rendering.render_study"):
        import_study(folder=str(folder), output=str(output), **{**usual, **more})
    return load_study(output)


def write_study_file(folder: Path, **content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(content))


def write_run(folder: Path, row: str, seed: int, settings: Mapping[str, Any] | None = None, **more: Any) -> Path:
    """``RUN.json`` alone."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row.replace(' ', '_')}_{seed}.json"
    path.write_text(json.dumps({"row": row, "seed": seed, "settings": dict(settings or {}), **more}))
    return path


def write_counts(folder: Path, row: str, seed: int, quality: float, settings: Mapping[str, Any] | None = None) -> Path:
    """A run with confusion counts."""
    path = write_run(folder, row, seed, settings)
    np.savez(path.with_suffix(".npz"), counts=make_counts(quality, seed), ids=IMAGES)
    return path


def write_scores(path: Path, lines: Sequence[Sequence[object]], titles: Sequence[str] = ("image", "score")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([titles, *lines])
    return path


def scores(row: int, seed: int, mean: float = 0.8) -> list[float]:
    """Of each image between 0 and 1: images differ, rows a little, seeds too."""
    image = np.random.default_rng(5).normal(0, 0.08, len(IMAGES))
    noise = np.random.default_rng(100 * row + seed).normal(0, 0.01, len(IMAGES))
    return [float(value) for value in np.clip(mean + 0.03 * row + image + noise, 0, 1)]


def table_lines(rows: Sequence[str] = ("plain", "wide"), seeds: Sequence[int] = (0, 1, 2)) -> list[list[object]]:
    """Row, seed, image and score."""
    return [
        [name, seed, image, score]
        for place, name in enumerate(rows)
        for seed in seeds
        for image, score in zip(IMAGES, scores(place, seed), strict=True)
    ]
