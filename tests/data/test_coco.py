"""COCO's conversion on a small hand-made annotation file, pixel by pixel."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.data import coco_masks
from exfuse.data.coco import read_coco
from exfuse.data.coco_drawing import class_ids
from exfuse.data.coco_masks import convert_split
from exfuse.data.pixels import read_mask
from exfuse.errors import DataError
from exfuse.palette import voc_palette
from tests.data.coco_files import CATEGORIES, VOC, rectangle, run_lengths, write_coco
from tests.extras import needs

pytestmark = needs("coco")

PERSON, HORSE, CHAIR, TABLE, BOTTLE, SOFA, TV, DOG = (
    VOC.index(name) for name in ("person", "horse", "chair", "diningtable", "bottle", "sofa", "tvmonitor", "dog")
)
SIZE = (8, 10)
CROWD = np.zeros(SIZE, dtype=bool)
CROWD[0:3, 6:10] = True

IMAGES = {f"{number:012d}.jpg": SIZE for number in (7, 3, 5, 9, 11, 13, 15)}
RIDER, SET_TABLE, CROWDED, EMPTY, APPLES, TINY, PIECES = (f"{number:012d}.jpg" for number in (3, 5, 7, 9, 11, 13, 15))

ANNOTATIONS = [
    # a rider, listed before the larger horse: the person has the pixels that both claim
    {"image": RIDER, "category": "person", "segmentation": rectangle(0, 2, 5, 5)},
    {"image": RIDER, "category": "horse", "segmentation": rectangle(3, 0, 8, 9)},
    # a bottle on a table beside a chair that reaches under it; the smaller is on top whatever the order of the file
    {"image": SET_TABLE, "category": "bottle", "segmentation": rectangle(1, 1, 3, 3)},
    {"image": SET_TABLE, "category": "dining table", "segmentation": rectangle(0, 0, 6, 8)},
    {"image": SET_TABLE, "category": "chair", "segmentation": rectangle(4, 5, 8, 10)},
    # a person larger than the dog is still on top; the crowd is void, on persons too
    {"image": CROWDED, "category": "dog", "segmentation": rectangle(2, 0, 4, 3)},
    {"image": CROWDED, "category": "person", "segmentation": rectangle(1, 1, 8, 8)},
    {"image": CROWDED, "category": "person", "segmentation": run_lengths(CROWD), "iscrowd": 1},
    # what VOC does not have is background, even in a crowd
    {"image": APPLES, "category": "apple", "segmentation": rectangle(0, 0, 8, 10)},
    {"image": CROWDED, "category": "frisbee", "segmentation": rectangle(0, 0, 8, 10)},
    {"image": TINY, "category": "tv", "segmentation": rectangle(0, 0, 2, 3)},
    # one object in two pieces, one of them a line without area
    {"image": PIECES, "category": "couch", "segmentation": [*rectangle(0, 0, 4, 3), *rectangle(4, 6, 8, 10), [1, 1, 5, 5]]},
]


def expected() -> dict[str, np.ndarray]:
    masks = {file: np.zeros(SIZE, dtype=np.uint8) for file in (RIDER, SET_TABLE, CROWDED, PIECES)}
    masks[RIDER][3:8, 0:9] = HORSE
    masks[RIDER][0:5, 2:5] = PERSON
    masks[SET_TABLE][0:6, 0:8] = TABLE
    masks[SET_TABLE][4:8, 5:10] = CHAIR
    masks[SET_TABLE][1:3, 1:3] = BOTTLE
    masks[CROWDED][2:4, 0:3] = DOG
    masks[CROWDED][1:8, 1:8] = PERSON
    masks[CROWDED][0:3, 6:10] = 255
    masks[PIECES][0:4, 0:3] = SOFA
    masks[PIECES][4:8, 6:10] = SOFA
    return masks


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco", "train2017", IMAGES, ANNOTATIONS)


def files_of(store: Path) -> dict[str, str]:
    """Hashes of everything in a store but its lock."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def test_every_pixel_is_what_the_rules_say(coco: Path) -> None:
    index = convert_split(coco, "train2017", VOC, minimum_pixels=12)
    assert list(index["masks"]) == sorted(expected())
    assert index["left_out"] == {"without the classes": 2, "too few pixels": 1}  # the tiny television has 6
    split = read_coco(coco, ["train2017"], VOC, 12)
    assert [item.id for item in split.items] == [Path(file).stem for file in sorted(expected())]
    for item in split.items:
        np.testing.assert_array_equal(read_mask(item.mask, 21), expected()[item.image.name], err_msg=item.id)
        with Image.open(item.mask) as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), voc_palette()[np.asarray(mask)])


def test_the_threshold_counts_pixels_of_the_classes_alone(coco: Path) -> None:
    index = convert_split(coco, "train2017", VOC, minimum_pixels=6)
    assert TINY in index["masks"]
    assert TINY not in convert_split(coco, "train2017", VOC, minimum_pixels=7)["masks"]
    # void is no label: the crowded image has 2 pixels of dog and 45 of persons that no crowd covers
    labelled = int(np.isin(expected()[CROWDED], (DOG, PERSON)).sum())
    assert CROWDED in convert_split(coco, "train2017", VOC, minimum_pixels=labelled)["masks"]
    assert CROWDED not in convert_split(coco, "train2017", VOC, minimum_pixels=labelled + 1)["masks"]


def test_compressed_run_lengths_are_read_as_well(coco: Path, tmp_path: Path) -> None:
    tool = pytest.importorskip("pycocotools.mask")
    compressed = tool.encode(np.asfortranarray(CROWD.astype(np.uint8)))
    compressed["counts"] = compressed["counts"].decode()
    annotations = [{**one, "segmentation": compressed} if one.get("iscrowd") else one for one in ANNOTATIONS]
    other = write_coco(tmp_path / "other", "train2017", IMAGES, annotations)
    masks = [convert_split(root, "train2017", VOC, 12)["masks"] for root in (coco, other)]
    assert masks[0] == masks[1]


def test_every_class_of_voc_has_its_category() -> None:
    categories = [{"name": name, "id": number} for name, number in CATEGORIES.items()]
    by_class = {VOC[label]: number for number, label in class_ids(categories, VOC).items()}
    assert set(by_class) == set(VOC[1:])
    assert (by_class["sofa"], by_class["tvmonitor"], by_class["motorbike"], by_class["aeroplane"]) == (63, 72, 4, 5)
    assert (by_class["diningtable"], by_class["pottedplant"]) == (67, 64)
    with pytest.raises(DataError, match="no category 'couch'"):
        class_ids([one for one in categories if one["name"] != "couch"], VOC)


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_depend_neither_on_the_order_of_the_file_nor_on_processes(coco: Path, tmp_path: Path, workers: int) -> None:
    convert_split(coco, "train2017", VOC, 12)
    store = coco / "voc_masks" / "train2017"
    path = coco / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    for part in ("images", "annotations", "categories"):
        content[part].reverse()
    other = tmp_path / "other"
    (other / "annotations").mkdir(parents=True)
    (other / "annotations" / path.name).write_text(json.dumps(content))
    convert_split(other, "train2017", VOC, 12, workers=workers)
    masks, others = (files_of(one / "masks") for one in (store, other / "voc_masks" / "train2017"))
    assert masks == others


def test_an_interrupted_conversion_is_not_read_and_goes_on(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_masks, "_PIECE", 2)
    store, convert, begun = coco / "voc_masks" / "train2017", coco_masks._convert_piece, list[int]()

    def interrupted(target: Path, number: int, *rest: object) -> None:
        if number == 2:
            (target / "masks" / ".half.png").write_bytes(b"half a")
            (target / "pieces" / ".00002.json.part").write_bytes(b"half a")
            raise KeyboardInterrupt
        begun.append(number)
        convert(target, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(coco_masks, "_convert_piece", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_split(coco, "train2017", VOC, 12)
    assert begun == [0, 1]
    with pytest.raises(DataError, match=r"exfuse data prepare coco-masks"):
        read_coco(coco, ["train2017"], VOC, 12)
    monkeypatch.setattr(coco_masks, "_convert_piece", convert)
    assert convert_split(coco, "train2017", VOC, 12)["remade"] == 2  # pieces 2 and 3 of 0..3
    assert not (store / "masks" / ".half.png").exists()
    assert not list((store / "pieces").glob(".*"))
    read_coco(coco, ["train2017"], VOC, 12)
    assert convert_split(coco, "train2017", VOC, 12)["remade"] == 0


def test_a_damaged_mask_is_made_again(coco: Path) -> None:
    convert_split(coco, "train2017", VOC, 12)
    store = coco / "voc_masks" / "train2017"
    whole = files_of(store)
    damaged = store / "masks" / f"{Path(RIDER).stem}.png"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert convert_split(coco, "train2017", VOC, 12)["remade"] == 1
    assert files_of(store) == whole


@pytest.mark.parametrize("damaged", ["index.json", "pieces/00000.json"])
def test_a_damaged_list_of_masks_is_written_again(coco: Path, damaged: str) -> None:
    convert_split(coco, "train2017", VOC, 12)
    store = coco / "voc_masks" / "train2017"
    whole = files_of(store)
    (store / damaged).write_bytes((store / damaged).read_bytes()[:40])
    convert_split(coco, "train2017", VOC, 12)
    assert files_of(store) == whole


def test_other_annotations_or_another_threshold_make_the_masks_anew(coco: Path) -> None:
    convert_split(coco, "train2017", VOC, 6)
    with pytest.raises(DataError, match=r"minimum_pixels 6; 12 is wanted.*minimum_pixels=12"):
        read_coco(coco, ["train2017"], VOC, 12)
    assert convert_split(coco, "train2017", VOC, 12)["remade"] == 1
    assert not (coco / "voc_masks" / "train2017" / "masks" / f"{Path(TINY).stem}.png").exists()
    write_coco(coco, "train2017", IMAGES, ANNOTATIONS[1:])
    index = convert_split(coco, "train2017", VOC, 12)
    assert index["remade"] == 1
    riderless = np.zeros(SIZE, dtype=np.uint8)
    riderless[3:8, 0:9] = HORSE
    item = next(item for item in read_coco(coco, ["train2017"], VOC, 12).items if item.image.name == RIDER)
    np.testing.assert_array_equal(read_mask(item.mask, 21), riderless)


def test_several_splits_are_one_training_set(coco: Path) -> None:
    write_coco(coco, "val2017", {"000000000001.jpg": SIZE}, [{**ANNOTATIONS[0], "image": "000000000001.jpg"}])
    for split in ("train2017", "val2017"):
        convert_split(coco, split, VOC, 12)
    split = read_coco(coco, ["train2017", "val2017"], VOC, 12)
    assert [item.image.parent.name for item in split.items] == ["train2017"] * 4 + ["val2017"]


def test_an_image_of_another_size_than_its_annotation_is_named(coco: Path) -> None:
    convert_split(coco, "train2017", VOC, 12)
    Image.new("RGB", (4, 4)).save(coco / "train2017" / RIDER)
    with pytest.raises(DataError, match=rf"{RIDER} is 4x4 but its mask .* is 10x8"):
        read_coco(coco, ["train2017"], VOC, 12)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no whole annotation file"),
        ('{"images": [', "no whole annotation file"),
        ('{"images": []}', "no whole annotation file"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "leaf"}]}', "no category 'airplane'"),
    ],
)
def test_a_broken_annotation_file_is_named(coco: Path, content: str, says: str) -> None:
    (coco / "annotations" / "instances_train2017.json").write_text(content)
    with pytest.raises(DataError, match=re.escape(says)):
        convert_split(coco, "train2017", VOC, 12)


@pytest.mark.parametrize(
    "shape", [{"size": [3, 3], "counts": [9]}, {"size": list(SIZE)}, "polygon", [["a", 1, 2, 3, 4, 5]]], ids=str
)
def test_a_shape_that_cannot_be_drawn_is_named(coco: Path, shape: object) -> None:
    write_coco(coco, "train2017", IMAGES, [{**ANNOTATIONS[0], "segmentation": shape}])
    with pytest.raises(DataError, match=rf"{RIDER}: annotation 1 has a shape that cannot be drawn"):
        convert_split(coco, "train2017", VOC, 12)


def test_a_missing_annotation_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instances_train2017\.json.*data\.coco_root.*make data-coco"):
        convert_split(tmp_path, "train2017", VOC, 12)
