"""Every variant can learn four images by heart: one with a wiring mistake cannot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.config.overrides import describe_run
from exfuse.data.scenes_drawing import draw_scene
from exfuse.runs.training import train
from exfuse.store.description import RunDescription
from tests.conftest import REPOSITORY
from tests.sharing import FULL, amount
from tests.small_runs import only_run

SIDE = 64
LADDER = ["+ablation=exfuse_last", "+ablation=exfuse", "+ablation=baseline"]


def distinct_variants() -> list[str]:
    """Every overlay and every technique option as an override, those that compose to the same techniques once."""
    conf = REPOSITORY / "conf"
    overrides = [f"+ablation={path.stem}" for path in sorted((conf / "ablation").glob("*.yaml"))]
    overrides += [f"technique/{path.parent.name}={path.stem}" for path in sorted((conf / "technique").glob("*/*.yaml"))]
    variants: dict[str, str] = {}
    for override in overrides:
        variants.setdefault(str(describe_run([override]).technique), override)
    return list(variants.values())


@pytest.fixture(scope="module")
def four_real_images(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs with several classes each, shrunk to squares, their ids renumbered without gaps."""
    voc = real_data / "voc_animals" / "VOCdevkit" / "VOC2012"
    names = (voc / "ImageSets" / "Segmentation" / "train.txt").read_text().split()[:4]
    size = (SIDE, SIDE)
    images = [Image.open(voc / "JPEGImages" / f"{name}.jpg").resize(size) for name in names]
    masks = [np.asarray(Image.open(voc / "SegmentationClass" / f"{name}.png").resize(size, Image.NEAREST)) for name in names]
    return write_folder(tmp_path_factory.mktemp("real"), [np.asarray(image) for image in images], masks)


@pytest.fixture(scope="module")
def four_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [draw_scene(0, "train", index, SIDE) for index in range(4)]
    return write_folder(tmp_path_factory.mktemp("scenes"), [image for image, _ in scenes], [mask for _, mask in scenes])


def write_folder(root: Path, images: list[np.ndarray], masks: list[np.ndarray]) -> Path:
    """Write images and masks in the layout of data=folder, with only the ids that occur."""
    ids = sorted(set(np.concatenate([np.unique(mask) for mask in masks])) - {255})
    renumber = np.full(256, 255, np.uint8)
    renumber[ids] = np.arange(len(ids))
    for split in ("train", "val"):  # debug=overfit trains and scores on train; val only has to exist, with other images
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
            Image.fromarray(image if split == "train" else 255 - image).save(root / split / "images" / f"{index}.png")
            Image.fromarray(renumber[mask]).save(root / split / "labels" / f"{index}.png")
    (root / "classes.txt").write_text("\n".join(f"class {id}" for id in ids))
    return root


def overfit(variant: str, data: Path, compose_config: Callable[..., RunDescription], runs: Path) -> None:
    config = compose_config(
        variant,
        "debug=overfit",
        "data=folder",
        f"data.root={data}",
        f"recipe.augmentation.crop={SIDE}",
        "trainer=cpu",
        "trainer.enable_progress_bar=false",
        "runtime.workers=0",
        "runtime.threads=1",  # so small that a second thread only waits
        f"paths.runs={runs}",
    )
    train(config)
    record = only_run(runs).record()
    assert record is not None
    assert record.scores.images == 4
    assert record.scores.pixel_accuracy > 0.97
    assert record.scores.miou > 0.85


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="make test-all alone: make test overfits four scenes")
@pytest.mark.parametrize("variant", distinct_variants() if FULL else ["+ablation=exfuse"])
def test_every_overlay_and_option_overfits_four_real_images(
    variant: str, four_real_images: Path, compose_config: Callable[..., RunDescription], tmp_path: Path
) -> None:
    overfit(variant, four_real_images, compose_config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("variant", amount(LADDER[:1], LADDER))
def test_the_ends_of_the_ladder_overfit_four_scenes(
    variant: str, four_scenes: Path, compose_config: Callable[..., RunDescription], tmp_path: Path
) -> None:
    overfit(variant, four_scenes, compose_config, tmp_path)
