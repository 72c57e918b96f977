"""COCO's annotation file: its images, in order, with the instances of the wanted classes."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from exfuse.data.coco_drawing import Instance, class_ids
from exfuse.data.text import check_ids
from exfuse.errors import DataError, repeated


class AnnotatedImage(NamedTuple):
    """An image of COCO.

    Attributes:
        file: its name in the folder of images.
        height, width: in pixels.
        instances: those of the wanted classes alone, crowds among them.
    """

    file: str
    height: int
    width: int
    instances: tuple[Instance, ...]


def annotation_file(root: Path, split: str) -> Path:
    """Where COCO's layout keeps the instances of a split such as train2017."""
    return root / "annotations" / f"instances_{split}.json"


def read_annotations(path: Path, classes: Sequence[str]) -> list[AnnotatedImage]:
    """Every image of the file, by file name, those without an instance of ``classes`` included.

    Args:
        path: of instances_SPLIT.json.
        classes: names of the ids 0..C-1, the first being the background.

    Raises:
        DataError: if the file is missing, cut short or no such file, or lists an image twice.
    """
    if not path.is_file():
        raise DataError(
            f"No annotation file {path}. Set data.coco_root to the folder that holds COCO's annotations/, train2017/ and "
            "val2017/, or run `make data-coco`."
        )
    try:
        content = json.loads(path.read_bytes())
        labels = class_ids(content["categories"], classes)
        instances: dict[int, list[Instance]] = defaultdict(list)
        for annotation in content["annotations"]:
            if (label := labels.get(annotation["category_id"])) is not None:
                crowd = bool(annotation.get("iscrowd", 0))
                instances[annotation["image_id"]].append(Instance(annotation["id"], label, crowd, annotation["segmentation"]))
        images = [
            AnnotatedImage(image["file_name"], image["height"], image["width"], tuple(instances[image["id"]]))
            for image in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no whole annotation file of COCO ({type(error).__name__}: {error}). Fetch the annotations again."
        ) from error
    if twins := repeated(Path(image.file).stem for image in images):  # by which their masks will be called
        raise DataError(f"{path} lists an image twice, e.g. {twins[0]}.")
    check_ids((image.file for image in images), str(path))
    return sorted(images)
