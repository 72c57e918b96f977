"""Whether a folder is ImageNet-1k in torchvision's layout; its licence lets nobody but its owners hand it out."""

import re
from collections.abc import Mapping
from pathlib import Path

from exfuse.errors import DataError

_WNID = re.compile(r"n\d{8}")
_FETCH = (
    "Get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from image-net.org (an account and its terms), and unpack them "
    "into train/WNID/ and val/WNID/."
)


def check_imagenet(root: Path, counts: Mapping[str, int]) -> dict[str, int]:
    """Count ``root``/{train,val}/WNID/*.JPEG.

    Args:
        root: holds train/ and val/.
        counts: ``classes`` and the images of ``train`` and ``val`` in a complete copy.

    Returns:
        Images of each split.

    Raises:
        DataError: one line for each thing that is missing or too many: a split, classes, images.
    """
    found, problems = {}, list[str]()
    per_split: dict[str, dict[str, int]] = {}
    for split in ("train", "val"):
        folder = root / split
        if not folder.is_dir():
            problems.append(f"no folder {folder}")
            continue
        per_split[split] = classes = {path.name: _images(path) for path in sorted(folder.iterdir()) if path.is_dir()}
        found[split] = sum(classes.values())
        problems += _problems(split, folder, classes, counts)
    if len(per_split) == 2:
        for here, there in (("train", "val"), ("val", "train")):
            if lone := sorted(set(per_split[here]) - set(per_split[there])):
                problems.append(f"{len(lone)} classes are in {here} but not in {there}: {_some(lone)}")
    if problems:
        raise DataError(f"{root} is no complete ImageNet: " + "; ".join(problems) + f".\n{_FETCH}")
    return found


def _problems(split: str, folder: Path, classes: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    problems = []
    if not classes and (loose := _images(folder)):
        return [f"{folder} holds {loose:,} images beside one another, expected a folder per class (WNID)"]
    if strange := [name for name in classes if not _WNID.fullmatch(name)]:
        problems.append(f"{split} has folders that are no WNID: {_some(strange)}")
    if len(classes) != counts["classes"]:
        problems.append(f"{split} has {len(classes):,} of {counts['classes']:,} classes")
    if empty := [name for name, images in classes.items() if not images]:
        problems.append(f"{split} has classes without an image: {_some(empty)}")
    if (images := sum(classes.values())) != counts[split]:
        usual = sorted(classes.values())[len(classes) // 2] if classes else 0
        fewest = sorted((number, name) for name, number in classes.items() if number < usual)
        least = f" (fewest: {_some([f'{name} {number}' for number, name in fewest])})" if fewest else ""
        problems.append(f"{split} has {images:,} of {counts[split]:,} images{least}")
    return problems


def _images(folder: Path) -> int:
    return sum(path.suffix.lower() in (".jpeg", ".jpg") for path in folder.iterdir())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
