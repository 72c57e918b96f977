"""Data sets fetched and checked: each function says what it found."""

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from exfuse.data.coco_annotations import annotation_file, read_annotations
from exfuse.data.coco_conversion import convert_split
from exfuse.data.split import read_list
from exfuse.data.voc import read_voc
from exfuse.data_setup.archives import Archive, provide
from exfuse.data_setup.imagenet import check_imagenet
from exfuse.errors import ConfigError, DataError

_TEST = (
    "VOC's test images come from its evaluation server alone (host.robots.ox.ac.uk:8080, after registration): unpack "
    "VOC2012test.tar in {root}; training needs none of them."
)
_PAPER = "The paper's first stage has 109,892 images in all (second-hand), of which SBD and VOC are 10,582."


def prepare(config: DictConfig) -> None:
    """Fetch what is missing of the data set ``config.source`` and check it all.

    Raises:
        ConfigError: if nobody may hand it out.
        DataError: if something is missing or broken.
    """
    if "archives" not in config.source:
        raise ConfigError(f"Nobody may hand {config.source.name} out. Is yours whole? exfuse data check {config.source.name}")
    console, store = Console(), Path(config.archives or Path(config.paths.data) / "archives")
    for archive in _plain(config.source.archives).values():
        provide(Archive.of(archive), store, config.attempts, console)
    check(config)
    if config.source.name.startswith("coco"):
        prepare_coco_masks(config)


def check(config: DictConfig) -> None:
    """Check the data set ``config.source``.

    Raises:
        DataError: if something is missing or broken.
    """
    checks = {"voc": check_voc, "sbd": check_sbd, "coco": check_coco, "imagenet": check_imagenet_folder}
    if config.source.name in checks:
        checks[config.source.name](config)


def check_voc(config: DictConfig) -> None:
    """Check that every listed image and mask of VOC 2012 is there and fits."""
    counts, console = _plain(config.source.counts), Console()
    for split in ("train", "val"):
        found = read_voc(config.data.root, split, config.data.classes, counts)
        console.print(f"{found.name}: {len(found):,} images with masks, whole; manifest {found.manifest()[:16]}")
    console.print(_TEST.format(root=Path(config.data.root).parent.parent), soft_wrap=True)


def check_sbd(config: DictConfig) -> None:
    """Check that every image that SBD lists has its .mat file."""
    root = Path(config.data.sbd_root)
    ids = [id for split in ("train", "val") for id in read_list(root / f"{split}.txt", "SBD's list is missing.")]
    if (wanted := config.source.counts.images) is not None and len(set(ids)) != wanted:
        raise DataError(f"{root} lists {len(set(ids)):,} images where a complete SBD has {wanted:,}.")
    for id in ids:
        for file in (root / "cls" / f"{id}.mat", root / "img" / f"{id}.jpg"):
            if not file.is_file():
                raise DataError(f"SBD lists {id} but {file} does not exist. Delete {root} and start again.")
    Console().print(f"SBD: {len(ids):,} images with masks. With VOC's they are the training set of data=voc_aug.")


def check_coco(config: DictConfig) -> None:
    """Check that every image of COCO's annotations is there."""
    root, console = Path(config.data.coco_root), Console()
    for split in config.data.coco_splits:
        images = read_annotations(annotation_file(root, split), config.data.classes)
        if (wanted := config.source.counts.get(split)) is not None and len(images) != wanted:
            raise DataError(f"{annotation_file(root, split)} lists {len(images):,} images where COCO has {wanted:,}.")
        there = {path.name for path in (root / split).iterdir()}
        if missing := [image.file for image in images if image.file not in there]:
            raise DataError(
                f"{root / split} lacks {len(missing):,} of {len(images):,} images, e.g. {missing[0]}. Delete it, start again."
            )
        console.print(f"COCO {split}: {len(images):,} images, whole")


def prepare_coco_masks(config: DictConfig) -> None:
    """Paint the masks of VOC's classes from COCO's annotations, or what is missing of them."""
    root, console, total = Path(config.data.coco_root), Console(), 0
    for split in config.data.coco_splits:
        workers = config.workers or os.cpu_count() or 1
        index = convert_split(root, split, list(config.data.classes), config.data.minimum_pixels, workers)
        total += len(index["masks"])
        left_out = ", ".join(f"{number:,} {reason}" for reason, number in index["left_out"].items())
        console.print(f"COCO {split}: {len(index['masks']):,} images with VOC's classes; left out: {left_out}", soft_wrap=True)
    console.print(f"COCO in all: {total:,} images for data=voc_coco. {_PAPER}", soft_wrap=True)


def check_imagenet_folder(config: DictConfig) -> None:
    """Check a copy of ImageNet-1k; nothing is fetched."""
    root = Path(config.source.root)
    found = check_imagenet(root, _plain(config.source.counts))
    Console().print(
        f"{root}: {found['train']:,} train and {found['val']:,} val images of {config.source.counts.classes:,} classes"
    )


def _plain(config: DictConfig) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(config, resolve=True)
    return content
