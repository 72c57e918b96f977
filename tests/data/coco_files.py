"""COCO's layout for tests: annotations as its files spell them, images of noise."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.conftest import save_image

VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# COCO's own numbers of VOC's classes, and of two categories that VOC does not have
CATEGORIES = {
    "person": 1,
    "bicycle": 2,
    "car": 3,
    "motorcycle": 4,
    "airplane": 5,
    "bus": 6,
    "train": 7,
    "boat": 9,
    "bird": 16,
    "cat": 17,
    "dog": 18,
    "horse": 19,
    "sheep": 20,
    "cow": 21,
    "bottle": 44,
    "chair": 62,
    "couch": 63,
    "potted plant": 64,
    "dining table": 67,
    "tv": 72,
    "apple": 53,
    "frisbee": 34,
}


def rectangle(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    """One polygon around rows top..bottom-1 and columns left..right-1."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(cover: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run-length encoding: column by column, counts of 0s and 1s in turn, beginning with 0s."""
    counts, current, run = [], 0, 0
    for pixel in cover.astype(int).ravel(order="F"):
        if pixel != current:
            counts.append(run)
            current, run = pixel, 0
        run += 1
    return {"size": list(cover.shape), "counts": [*counts, run]}


def write_coco(root: Path, split: str, images: Mapping[str, tuple[int, int]], annotations: Sequence[Mapping[str, Any]]) -> Path:
    """Write annotations/instances_SPLIT.json and an image of noise for each of ``images`` (file name: height, width).

    An annotation has ``image`` (a file name), ``category``, ``segmentation`` and maybe ``iscrowd``; ids are 1, 2, ...
    """
    numbers = {file: number for number, file in enumerate(images, 100)}
    for number, (file, (height, width)) in enumerate(images.items()):
        save_image(root / split / file, height, width, seed=number)
    content = {
        "info": {},
        "images": [
            {"id": numbers[file], "file_name": file, "height": height, "width": width}
            for file, (height, width) in images.items()
        ],
        "categories": [{"id": number, "name": name} for name, number in CATEGORIES.items()],
        "annotations": [
            {
                "id": number,
                "image_id": numbers[annotation["image"]],
                "category_id": CATEGORIES[annotation["category"]],
                "segmentation": annotation["segmentation"],
                "iscrowd": annotation.get("iscrowd", 0),
            }
            for number, annotation in enumerate(annotations, 1)
        ],
    }
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return root
