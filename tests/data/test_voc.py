from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.data.pixels import read_image, read_mask
from exfuse.data.split import Split, check_disjoint
from exfuse.data.text import read_id_list
from exfuse.data.voc import read_voc
from exfuse.errors import DataError

CLASSES = [f"class{number}" for number in range(21)]
COUNTS = {"train": 3, "val": 2}


@pytest.fixture
def voc(tmp_path, ids_map, write_voc) -> Path:
    """Five images of different sizes whose lists are in no alphabetical order."""
    masks = {f"2007_00000{number}": ids_map(20 + number, 30, seed=number) for number in range(5)}
    lists = {"train": ["2007_000003", "2007_000000", "2007_000004"], "val": ["2007_000002", "2007_000001"]}
    return write_voc(tmp_path / "VOC2012", masks, lists)


def read_everything(root: Path, split: str = "train") -> Split:
    """What a training does with a split: check it, then read every pixel."""
    checked = read_voc(root, split, CLASSES, COUNTS, name="My VOC")
    for item in checked.items:
        read_image(item.image)
        read_mask(item.mask, len(CLASSES), checked.void_ids)
    return checked


def test_images_come_in_the_order_of_the_list_with_the_ids_of_their_masks(voc, ids_map):
    split = read_everything(voc)
    assert [item.id for item in split.items] == ["2007_000003", "2007_000000", "2007_000004"]
    for item in split.items:
        written = ids_map(20 + int(item.id[-1]), 30, seed=int(item.id[-1]))
        assert 255 in written
        np.testing.assert_array_equal(read_mask(item.mask, 21), written)
        np.testing.assert_array_equal(read_image(item.image), np.asarray(Image.open(item.image).convert("RGB")))


def test_grey_scale_masks_are_read_like_palette_ones(voc, ids_map):
    path = voc / "SegmentationClass" / "2007_000003.png"
    Image.fromarray(ids_map(23, 30, seed=3)).save(path)
    assert Image.open(path).mode == "L"
    np.testing.assert_array_equal(read_mask(path, 21), ids_map(23, 30, seed=3))


def test_a_grey_jpeg_is_read_as_rgb(voc):
    path = voc / "JPEGImages" / "2007_000003.jpg"
    grey = Image.open(path).convert("L")
    grey.save(path)
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, np.repeat(np.asarray(Image.open(path))[..., None], 3, axis=2))


def truncate(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def put_rgb(path: Path) -> None:
    Image.open(path).convert("RGB").save(path)


def put_id(path: Path, id: int) -> None:
    ids = np.array(Image.open(path))
    ids[3, 4] = id
    Image.fromarray(ids).save(path)


IMAGE, MASK, LIST = "JPEGImages/2007_000000.jpg", "SegmentationClass/2007_000000.png", "ImageSets/Segmentation/train.txt"
# What is done to the data set; the file that the message must name; what it must say of it.
DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "root": (lambda root: root.rename(root.with_name("elsewhere")), "VOC2012/JPEGImages", "not found: no folder"),
    "mask folder": (lambda root: (root / MASK).parent.rename(root / "Masks"), "VOC2012/SegmentationClass", "Set data.root"),
    "list": (lambda root: (root / LIST).unlink(), LIST, "No list file"),
    "image": (lambda root: (root / IMAGE).unlink(), IMAGE, "2007_000000 is listed but its image"),
    "mask": (lambda root: (root / MASK).unlink(), MASK, "2007_000000 is listed but its mask"),
    "size": (lambda root: Image.new("P", (30, 21)).save(root / MASK), MASK, "is 30x20 but its mask"),
    "transposed": (lambda root: Image.new("P", (20, 30)).save(root / MASK), MASK, "is 20x30 pixels"),
    "rgb mask": (lambda root: put_rgb(root / MASK), MASK, "PIL mode RGB: expected class ids"),
    "unknown id": (lambda root: put_id(root / MASK, 21), MASK, "holds the ids [21]"),
    "truncated jpeg": (lambda root: truncate(root / IMAGE, 0.6), IMAGE, "cannot be decoded"),
    "truncated mask": (lambda root: truncate(root / MASK, 0.95), MASK, "cannot be decoded"),
    "empty jpeg": (lambda root: truncate(root / IMAGE, 0), IMAGE, "is not an image"),
    "text as mask": (lambda root: (root / MASK).write_text("404"), MASK, "is not an image"),
    "empty list": (lambda root: (root / LIST).write_text("\n"), "My VOC train", "lists no image at all"),
    "short list": (lambda root: (root / LIST).write_text("2007_000000\n"), "My VOC train", "has 1 image where"),
    "id twice": (lambda root: (root / LIST).write_text("2007_000000\n" * 2), LIST, "lists 2007_000000 twice"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_bad_input_is_refused_in_one_message_that_names_the_file(voc, damage):
    read_everything(voc)
    do, file, says = DAMAGE[damage]
    do(voc)
    with pytest.raises(DataError) as refusal:
        read_everything(voc)
    message = str(refusal.value)
    assert file in message
    assert says in message
    assert message.count("\n") <= 1
    assert message.endswith(".")


def test_broken_pixels_are_found_at_the_start_although_headers_are_whole(voc):
    truncate(voc / IMAGE, 0.6)
    for read in (lambda: read_voc(voc, "train", CLASSES, COUNTS), lambda: read_image(voc / IMAGE)):
        with pytest.raises(DataError, match=IMAGE):
            read()


def test_a_complete_copy_is_not_demanded_where_the_count_is_null(voc):
    (voc / LIST).write_text("2007_000000\n")
    assert len(read_voc(voc, "train", CLASSES, {"train": None})) == 1
    assert len(read_voc(voc, "train", CLASSES)) == 1


def test_an_image_in_train_and_val_is_refused(voc):
    train, val = (read_voc(voc, split, CLASSES) for split in ("train", "val"))
    check_disjoint(train, val)
    (voc / LIST).write_text("2007_000000\n2007_000002\n")
    with pytest.raises(DataError, match=r"VOC train and VOC val share 1 image.*2007_000002\.jpg"):
        check_disjoint(read_voc(voc, "train", CLASSES), val)


def test_splits_that_name_other_classes_are_refused(voc):
    train, val = read_voc(voc, "train", CLASSES), read_voc(voc, "val", CLASSES[::-1])
    with pytest.raises(DataError, match="name different classes"):
        check_disjoint(train, val)


def test_real_masks_hold_the_voc_ids_alone(real_data):
    root = real_data / "voc_animals" / "VOCdevkit" / "VOC2012"
    splits = {split: read_voc(root, split, CLASSES, {"train": 437, "val": 222}) for split in ("train", "val")}
    check_disjoint(splits["train"], splits["val"])
    assert {split: len(content) for split, content in splits.items()} == {"train": 437, "val": 222}
    pixels = np.zeros(256, dtype=np.int64)
    for split, content in splits.items():
        official = set((real_data / "voc_lists" / f"{split}.txt").read_text().split())
        assert {item.id for item in content.items} <= official
        for item in content.items:
            mask = read_mask(item.mask, 21)
            pixels += np.bincount(mask.ravel(), minlength=256)
    assert set(np.flatnonzero(pixels)) <= {*range(21), 255}
    share = pixels / pixels.sum()
    assert share[0] == pytest.approx(0.66, abs=0.02)  # background
    assert share[255] == pytest.approx(0.06, abs=0.01)  # void
    assert all(share[animal] > 0.01 for animal in (8, 10, 12, 13, 15, 17))


def test_official_lists_have_the_published_counts_and_do_not_overlap(real_data):
    lists = {name: read_id_list(real_data / "voc_lists" / f"{name}.txt", "") for name in ("train", "val", "train_aug")}
    assert {name: len(ids) for name, ids in lists.items()} == {"train": 1464, "val": 1449, "train_aug": 10582}
    assert not set(lists["train_aug"]) & set(lists["val"])
    assert set(lists["train"]) < set(lists["train_aug"])
