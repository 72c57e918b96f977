import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from exfuse.composition.reading import read_split
from exfuse.data.pixels import read_mask
from exfuse.data.sbd import convert_masks, read_train_aug
from exfuse.data.split import check_disjoint
from exfuse.data.voc import read_voc
from exfuse.errors import DataError
from exfuse.palette import voc_palette
from tests.sharing import FULL

CLASSES = [f"class{number}" for number in range(21)]

FINE, HELD_OUT = ["v1", "v2", "v3"], ["w1", "w2"]  # VOC's train and val
SBD_TRAIN, SBD_VAL = ["v2", "s3", "w1", "s1"], ["s2", "v3", "w2", "s4"]  # overlap both


def coarse_mask(id: str) -> np.ndarray:
    """Another mask for every id, without void, as SBD's are."""
    return np.random.default_rng(zlib.crc32(id.encode())).integers(0, 21, (12, 16), dtype=np.uint8)


def write_mat(path: Path, segmentation: object) -> None:
    """SBD's own structure: GTcls.{Boundaries, Segmentation, CategoriesPresent}, compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = {"Boundaries": np.zeros((20, 1)), "Segmentation": segmentation, "CategoriesPresent": np.array([1, 2])}
    savemat(path, {"GTcls": truth}, do_compression=True)


@pytest.fixture
def roots(tmp_path, ids_map, write_voc) -> tuple[Path, Path]:
    voc, sbd = tmp_path / "VOC2012", tmp_path / "sbd" / "dataset"
    masks = {id: ids_map(12, 16, seed=number) for number, id in enumerate([*FINE, *HELD_OUT, "s1", "s2", "s3"])}
    write_voc(voc, masks, {"train": FINE, "val": HELD_OUT})
    for id in ("s1", "s2", "s3"):  # VOC has these images, but no masks of them
        (voc / "SegmentationClass" / f"{id}.png").unlink()
    for id in {*SBD_TRAIN, *SBD_VAL}:
        write_mat(sbd / "cls" / f"{id}.mat", coarse_mask(id))
    (sbd / "img").mkdir()
    Image.new("RGB", (16, 12)).save(sbd / "img" / "s4.jpg")  # SBD alone has this one
    (sbd / "train.txt").write_text("\n".join(SBD_TRAIN))
    (sbd / "val.txt").write_text("\n".join(SBD_VAL))
    return voc, sbd


def test_union_keeps_vocs_own_masks_and_leaves_its_val_out(roots, ids_map):
    voc, sbd = roots
    split = read_train_aug(voc, sbd, CLASSES, {"train_aug": 7})
    assert [item.id for item in split.items] == ["v1", "v2", "v3", "s1", "s2", "s3", "s4"]
    for number, item in enumerate(split.items[:3]):
        np.testing.assert_array_equal(read_mask(item.mask, 21), ids_map(12, 16, seed=number))
    for item in split.items[3:]:
        np.testing.assert_array_equal(read_mask(item.mask, 21), coarse_mask(item.id))
    assert {item.image.parent for item in split.items} == {voc / "JPEGImages", sbd / "img"}
    check_disjoint(split, read_voc(voc, "val", CLASSES))


def test_converted_masks_show_in_vocs_colours(roots):
    mask = Image.open(convert_masks(roots[1], ["s1"]) / "s1.png")
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), voc_palette()[coarse_mask("s1")])


def test_masks_are_converted_once(roots):
    voc, sbd = roots
    first = read_train_aug(voc, sbd, CLASSES)
    times = {item.mask: item.mask.stat().st_mtime_ns for item in first.items}
    for mat in (sbd / "cls").iterdir():
        mat.unlink()
    again = read_train_aug(voc, sbd, CLASSES)
    assert again == first
    assert {item.mask: item.mask.stat().st_mtime_ns for item in again.items} == times


def test_ids_listed_later_are_converted_too(roots):
    convert_masks(roots[1], ["s1"])
    folder = convert_masks(roots[1], ["s1", "s2"])
    assert {path.stem for path in folder.iterdir()} == {"s1", "s2"}


def test_masks_of_ones_own_in_the_folder_stay(roots):
    folder = roots[1] / "cls_png"
    folder.mkdir()
    (folder / "mine.png").write_bytes(b"mine")
    convert_masks(roots[1], ["s1"])
    assert {path.name for path in folder.iterdir()} == {"mine.png", "s1.png"}
    assert (folder / "mine.png").read_bytes() == b"mine"


def test_a_mask_is_converted_anew_when_what_it_was_made_from_changes(roots):
    voc, sbd = roots
    before, times = read_train_aug(voc, sbd, CLASSES), (sbd / "cls" / "s2.mat").stat()
    manifest, other = before.manifest(), (coarse_mask("s2") + 1) % 21
    write_mat(sbd / "cls" / "s2.mat", other)
    os.utime(sbd / "cls" / "s2.mat", ns=(times.st_atime_ns, times.st_mtime_ns))
    again = read_train_aug(voc, sbd, CLASSES)
    np.testing.assert_array_equal(again.mask([item.id for item in again.items].index("s2")), other)
    np.testing.assert_array_equal(again.mask([item.id for item in again.items].index("s1")), coarse_mask("s1"))
    assert again.manifest() != manifest


def test_a_converted_mask_that_is_altered_makes_other_data(roots):
    voc, sbd = roots
    manifest = read_train_aug(voc, sbd, CLASSES).manifest()
    mask = Image.open(sbd / "cls_png" / "s1.png")
    changed = Image.fromarray(20 - np.asarray(mask))
    changed.putpalette(mask.getpalette())
    changed.save(sbd / "cls_png" / "s1.png")
    assert read_train_aug(voc, sbd, CLASSES).manifest() != manifest


@pytest.mark.parametrize("id", ["../../esc/evil", "/etc/evil", "a/b", ".."])
def test_a_list_that_leads_out_of_the_folder_is_refused_and_nothing_is_written(roots, tmp_path, id):
    voc, sbd = roots
    before = set(tmp_path.rglob("*"))
    (sbd / "train.txt").write_text(f"s1\n{id}\n")
    with pytest.raises(DataError, match=r"train\.txt names .*without its folder"):
        read_train_aug(voc, sbd, CLASSES)
    assert set(tmp_path.rglob("*")) == before


def test_converted_masks_can_be_read_by_other_users(roots):
    assert convert_masks(roots[1], ["s1"]).stat().st_mode & 0o777 == 0o755


def test_an_interrupted_conversion_leaves_nothing_that_is_trusted(roots, monkeypatch):
    voc, sbd = roots
    before = {path.name for path in sbd.iterdir()}
    save, saved = Image.Image.save, []

    def interrupted(image: Image.Image, path: Path, *arguments: object, **options: object) -> None:
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half a")
            raise KeyboardInterrupt
        save(image, path, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_train_aug(voc, sbd, CLASSES)
    monkeypatch.undo()
    assert len(saved) == 3
    assert {path.name for path in sbd.iterdir()} - before <= {"cls_png.lock"}
    # what a killed process leaves: some masks under a name of its own
    (sbd / "cls_png.killed").mkdir()
    (sbd / "cls_png.killed" / "s1.png").write_bytes(b"half a")
    for item in read_train_aug(voc, sbd, CLASSES).items[3:]:
        np.testing.assert_array_equal(read_mask(item.mask, 21), coarse_mask(item.id))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF  # within the compressed stream
    path.write_bytes(content)


BROKEN: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "short header": lambda path: path.write_bytes(path.read_bytes()[:130]),
    "truncated": truncated,
    "flipped byte": flipped,
    "a web page": lambda path: path.write_text("<html>Not found, but in more words than a header has</html>" * 9),
    "no GTcls": lambda path: savemat(path, {"GTinst": {"Segmentation": coarse_mask("s2")}}),
    "GTcls without fields": lambda path: savemat(path, {"GTcls": np.zeros((3, 3))}),
    "three dimensions": lambda path: write_mat(path, np.zeros((12, 16, 3), np.uint8)),
    "fractions": lambda path: write_mat(path, np.full((12, 16), 0.5)),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_mat_file_is_named_and_nothing_is_left_of_the_conversion(roots, damage):
    voc, sbd = roots
    BROKEN[damage](sbd / "cls" / "s2.mat")
    with pytest.raises(DataError, match=r"cls/s2\.mat") as refusal:
        read_train_aug(voc, sbd, CLASSES)
    assert "SBD" in str(refusal.value)
    assert not (sbd / "cls_png").exists()
    assert not list(sbd.glob("cls_png.*[!k]"))


def test_a_mask_of_another_size_than_its_image_is_named(roots):
    voc, sbd = roots
    write_mat(sbd / "cls" / "s2.mat", np.zeros((16, 12), np.uint8))
    with pytest.raises(DataError, match=r"s2\.jpg is 16x12 but its mask .*cls_png/s2\.png is 12x16"):
        read_train_aug(voc, sbd, CLASSES)


@pytest.mark.parametrize("missing", ["train.txt", "val.txt"])
def test_a_missing_list_of_sbd_is_named_with_what_to_set(roots, missing):
    voc, sbd = roots
    (sbd / missing).unlink()
    with pytest.raises(DataError, match=rf"{re.escape(str(sbd / missing))}.*data\.sbd_root"):
        read_train_aug(voc, sbd, CLASSES)


def test_a_training_image_that_vocs_val_lists_as_well_is_refused(roots):
    voc, sbd = roots
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("w1\nw2\nv2\n")
    with pytest.raises(DataError, match=r"1 training images are also in val, e\.g\. v2"):
        read_train_aug(voc, sbd, CLASSES)


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="make test-all alone: make test reads trees of a few images")
def test_the_official_lists_make_the_10582_images_of_train_aug(real_data, tmp_path, compose_config):
    """A full-size tree in which every image, mask and .mat is a hard link to one of few tiny files."""
    official = {name: (real_data / "voc_lists" / f"{name}.txt").read_text().split() for name in ("train", "val", "train_aug")}
    voc, sbd = tmp_path / "VOC2012", tmp_path / "sbd"
    for folder in (voc / "JPEGImages", voc / "SegmentationClass", voc / "ImageSets" / "Segmentation", sbd):
        folder.mkdir(parents=True)
    for split, grey in (("train", 0), ("val", 9)):  # what is scored has other content
        Image.new("RGB", (16, 12), (grey, 0, 0)).save(tmp_path / f"{split}.jpg", quality=100)
    Image.fromarray(coarse_mask("one")).save(tmp_path / "one.png")
    write_mat(sbd / "cls" / "one.mat", coarse_mask("one"))
    for split, ids in (("train", official["train_aug"]), ("val", official["val"])):
        for id in ids:
            (voc / "JPEGImages" / f"{id}.jpg").hardlink_to(tmp_path / f"{split}.jpg")
    for split in ("train", "val"):
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(official[split]))
        for id in official[split]:
            (voc / "SegmentationClass" / f"{id}.png").hardlink_to(tmp_path / "one.png")
    # like SBD's, the lists hold 11,355 images, some of them of VOC's train and val (which ones is made up)
    extra = sorted(set(official["train_aug"]) - set(official["train"]))
    overlap = official["train"][:1100] + official["val"][:1137]
    coarse = extra + overlap
    assert len(coarse) == 11355
    for id in extra:
        (sbd / "cls" / f"{id}.mat").hardlink_to(sbd / "cls" / "one.mat")
    (sbd / "train.txt").write_text("\n".join(coarse[::2]))
    (sbd / "val.txt").write_text("\n".join(coarse[1::2]))

    config = compose_config("data=voc_aug", f"data.root={voc}", f"data.sbd_root={sbd}")
    train, val = (read_split(config.data, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (10582, 1449)
    assert {item.id for item in train.items} == set(official["train_aug"])
    check_disjoint(train, val)

    (sbd / "train.txt").write_text("\n".join(coarse[2::2]))  # without the first
    with pytest.raises(DataError, match="has 10,581 images where a complete copy has 10,582"):
        read_split(config.data, "train")
