"""Generated scenes shared out over the layouts of VOC, SBD and COCO."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import label

from exfuse.data.coco_masks import convert_split
from exfuse.data.scenes import generate_scenes
from tests.data.coco_files import CATEGORIES, VOC, run_lengths, write_coco
from tests.data.test_sbd import write_mat

_NAMES = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"} | {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
}


def write_layouts(folder: Path, each: int, val: int, size: int) -> list[str]:
    """Write ``each`` training images in each layout and ``val`` of VOC; the overrides that find them.

    SBD holds VOC's val as well, as the real one does. The scenes' ids are read as VOC's classes: what is learnt is nonsense,
    and that is no matter here.
    """
    voc, sbd, coco = folder / "VOCdevkit" / "VOC2012", folder / "sbd" / "dataset", folder / "coco"
    generate_scenes(voc, train=3 * each, val=val, size=size, seed=0)
    lists = voc / "ImageSets" / "Segmentation"
    train, held_out = ((lists / f"{split}.txt").read_text().split() for split in ("train", "val"))
    fine, coarse, outside = train[:each], train[each : 2 * each], train[2 * each :]
    (lists / "train.txt").write_text("\n".join(fine))
    (lists / "trainval.txt").write_text("\n".join([*fine, *held_out]))
    for id in [*coarse, *held_out]:
        write_mat(sbd / "cls" / f"{id}.mat", _mask(voc, id))
    for id in coarse:
        (voc / "SegmentationClass" / f"{id}.png").unlink()
    (sbd / "train.txt").write_text("\n".join(coarse))
    (sbd / "val.txt").write_text("\n".join(held_out))
    annotations, images = [], {}
    for number, id in enumerate(outside):
        file, mask = f"{number:012d}.jpg", _mask(voc, id)
        images[file] = mask.shape
        for value in set(np.unique(mask)) - {0, 255}:
            name = _NAMES.get(VOC[value], VOC[value])
            assert name in CATEGORIES
            things, count = label(mask == value)
            annotations += [
                {"image": file, "category": name, "segmentation": run_lengths(things == thing)} for thing in range(1, count + 1)
            ]
    write_coco(coco, "train2017", images, annotations)
    for number, id in enumerate(outside):
        (voc / "JPEGImages" / f"{id}.jpg").replace(coco / "train2017" / f"{number:012d}.jpg")
        (voc / "SegmentationClass" / f"{id}.png").unlink()
    convert_split(coco, "train2017", VOC, 10)
    counts = ("train", "val", "train_aug", "trainval")
    return [
        *(f"data.root={voc}", f"data.sbd_root={sbd}", f"data.coco_root={coco}"),
        *("data.coco_splits=[train2017]", "data.minimum_pixels=10"),
        *(f"data.counts.{split}=null" for split in counts),
    ]


def _mask(voc: Path, id: str) -> np.ndarray:
    with Image.open(voc / "SegmentationClass" / f"{id}.png") as mask:
        return np.array(mask)
