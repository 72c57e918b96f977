"""Small data sets on disk, written with PIL alone."""

import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.palette import voc_palette


def save_image(path: Path, height: int, width: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save_mask(path: Path, ids: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(ids)
    mask.putpalette(voc_palette().tobytes())
    mask.save(path)
    return path


@pytest.fixture(scope="session")
def ids_map() -> Callable[..., np.ndarray]:
    """``ids_map(height, width, seed)``: every pixel one of the ids 0..20 or void, at random."""

    def drawn(height: int, width: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).choice([*range(21), 255], (height, width)).astype(np.uint8)

    return drawn


@pytest.fixture(scope="session")
def write_voc() -> Callable[..., Path]:
    """``write_voc(root, masks, lists)``: a JPEG of noise and a palette PNG for each mask, and the list files."""

    def written(root: Path, masks: Mapping[str, np.ndarray], lists: Mapping[str, Iterable[str]]) -> Path:
        for id, ids in masks.items():
            save_image(root / "JPEGImages" / f"{id}.jpg", *ids.shape, seed=zlib.crc32(f"{root.name} {id}".encode()))
            save_mask(root / "SegmentationClass" / f"{id}.png", ids)
        folder = root / "ImageSets" / "Segmentation"
        folder.mkdir(parents=True, exist_ok=True)
        for split, listed in lists.items():
            (folder / f"{split}.txt").write_text("".join(f"{id}\n" for id in listed))
        return root

    return written


@pytest.fixture(scope="session")
def write_folder() -> Callable[..., Path]:
    """``write_folder(root, split, masks)``: the layout of ``exfuse.data.folder``, image names given with their suffix."""

    def written(root: Path, split: str, masks: Mapping[str, np.ndarray]) -> Path:
        for name, ids in masks.items():
            save_image(root / split / "images" / name, *ids.shape, seed=zlib.crc32(f"{split} {name}".encode()))
            save_mask(root / split / "labels" / f"{Path(name).stem}.png", ids)
        return root

    return written
