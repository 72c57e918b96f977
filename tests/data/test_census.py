"""Masks that say nothing are refused before anything trains; a class that is absent is no mistake."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.composition.reading import read_split
from exfuse.data import contents
from exfuse.data.census import census_lines, census_table, check_labels, count_classes, group_lines, padding_lines
from exfuse.data.contents import hashed_anew
from exfuse.data.folder import read_folder
from exfuse.data.split import check_disjoint
from exfuse.data.transforms import TrainTransform
from exfuse.errors import DataError
from exfuse.palette import VOID
from exfuse.runs.plan import plan_run

CLASSES = ["ground", "tree", "house"]


@pytest.fixture
def root(tmp_path: Path, write_folder) -> Path:
    for split in ("train", "val"):
        ids = np.array([[0, 1, 1, 255], [0, 0, 1, 255]], np.uint8).repeat(4, 0).repeat(4, 1)
        write_folder(tmp_path / "mine", split, {"a.png": ids, "b.png": np.zeros_like(ids), "c.png": ids})
    return tmp_path / "mine"


def fill(root: Path, change: Callable[[np.ndarray], np.ndarray], split: str = "val") -> None:
    for path in (root / split / "labels").iterdir():
        Image.fromarray(change(np.array(Image.open(path))).astype(np.uint8)).save(path)


def test_pixels_and_images_of_each_class_are_counted(root: Path) -> None:
    census = count_classes(read_folder(root, "train", CLASSES))
    assert census.pixels.tolist() == [2 * 48 + 128, 2 * 48, 0]
    assert census.images.tolist() == [3, 2, 0]
    assert (census.void, census.ids) == (64, {0, 1, 255})


def test_a_class_that_does_not_occur_is_a_warning(root: Path) -> None:
    split = read_folder(root, "train", CLASSES)
    check_labels(split)
    assert census_lines(split) == [
        "folder train: 3 images, 2 of 3 classes labelled, 16.7 % void",
        "Warning: no mask of folder train labels house.",
    ]
    assert census_table(split).row_count == 4
    assert census_lines(replace(split, items=split.items[:1]))[-1].startswith("Warning: folder train is one image")


@pytest.mark.parametrize("long_side", [None, 30])
def test_crops_that_show_mostly_padding_are_a_warning_that_says_how_much(
    tmp_path: Path, write_folder, long_side: int | None
) -> None:
    ids = np.tile(np.array([0, 1], np.uint8), (30, 20))
    for split in ("train", "val"):
        write_folder(tmp_path / "mine", split, {"a.png": ids, "b.png": ids})
    split = read_folder(tmp_path / "mine", "train", CLASSES[:2])
    (line,) = padding_lines(split, 64, (0.5, 2.0), long_side)
    transform = TrainTransform(64, long_side, (0.5, 2.0), 0.5, 0.0, [0.5] * 3, [0.5] * 3)
    image = np.zeros((*ids.shape, 3), np.uint8)
    void = np.mean([(transform(image, ids, seed)[1] == VOID).float().mean().item() for seed in range(2_000)])
    found = re.match(r"Warning: (\d+) % of what crops of 64 px show of folder train is padding", line)
    assert found is not None
    assert float(found[1]) == pytest.approx(100 * void, abs=3)
    assert padding_lines(split, 24, (0.5, 2.0), long_side) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda ids: np.where(ids == 1, 255, 0), r"hold 0 and 255 alone.*255 is void.*data\.ids=\[0,255\] data\.void_ids=\[\]"),
        (lambda ids: np.full_like(ids, 255), r"label nothing, all pixels are void, of the 3 listed classes"),
        (lambda ids: np.zeros_like(ids), r"label ground alone, of the 3 listed classes \(ground, tree, house\)"),
        (lambda ids: np.where(ids == 1, 1, 255), r"label tree alone"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_that_tell_no_two_classes_apart_are_refused_where_any_split_is_read(
    root: Path, compose_config, split: str, change, says: str
) -> None:
    fill(root, change, split)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    described = compose_config("data=folder", f"data.root={root}")
    with pytest.raises(DataError, match=rf"(?s)folder {split}: its masks {says}"):
        read_split(described.data, split)
    read_split(described.data, "val" if split == "train" else "train")


def test_a_few_images_may_label_one_class_but_not_none(root: Path, compose_config) -> None:
    (root / "classes.txt").write_text("\n".join(CLASSES))
    run = compose_config("data=folder", f"data.root={root}", "debug.images=1", "backbone.init=random")
    path = root / "val" / "labels" / "a.png"
    Image.fromarray(np.zeros_like(Image.open(path))).save(path)
    assert [len(split) for split in plan_run(run).splits.values()] == [1, 1]
    Image.fromarray(np.full_like(Image.open(path), 255)).save(path)
    with pytest.raises(DataError, match=r"debug\.images=1: the first images of folder val label no pixel\. Take more\."):
        plan_run(run)


def test_the_remedy_for_binary_masks_does_what_it_says(root: Path) -> None:
    fill(root, lambda ids: np.where(ids == 1, 255, 0))
    with pytest.raises(DataError, match=r"data\.ids=\[0,255\] data\.void_ids=\[\]"):
        check_labels(read_folder(root, "val", CLASSES))
    split = read_folder(root, "val", CLASSES[:2], ids=(0, 255), void_ids=())
    check_labels(split)
    assert count_classes(split).pixels.tolist() == [2 * 80 + 128, 2 * 48]


@pytest.mark.parametrize(
    ("ids", "void_ids"),
    [
        ((), (255,)),
        ((), ()),
        ((0, 3, 2), (1, 255)),
        ((0, 1, 255), ()),
        ((255, 0, 1), (7,)),
        ((1, 255, 9), (0,)),
        ((0, 7, 1), (255,)),
    ],
)
def test_what_is_counted_is_what_is_read(root: Path, ids: tuple[int, ...], void_ids: tuple[int, ...]) -> None:
    fill(root, lambda found: np.where(found == 2, 255, found))
    split = read_folder(root, "val", CLASSES, void_ids, ids=ids)
    masks = np.concatenate([split.mask(place).ravel() for place in range(len(split))])
    counted = count_classes(split)
    assert counted.pixels.tolist() == [int((masks == place).sum()) for place in range(len(CLASSES))]
    assert counted.void == int((masks == VOID).sum())
    assert int(counted.pixels.sum()) > 0


def test_groups_of_which_training_sees_images_are_told(tmp_path: Path, write_folder) -> None:
    ids = np.tile(np.array([0, 1], np.uint8), (8, 4))
    for split, names in (("train", "ab"), ("val", "bc")):
        write_folder(tmp_path / "mine", split, {f"{name}_{split}.png": ids for name in names})
    train, val = (read_folder(tmp_path / "mine", split, CLASSES[:2], groups="first_part") for split in ("train", "val"))
    assert group_lines(train, val) == [
        "Warning: 1 group of folder val has images in folder train, too (b): scores are of groups that training saw, and may "
        "be better than of new ones."
    ]
    alone = read_folder(tmp_path / "mine", "train", CLASSES[:2])
    assert group_lines(alone, val) == group_lines(train, replace(train, seen=True)) == []


def test_an_id_is_a_class_or_void(root: Path) -> None:
    with pytest.raises(DataError, match=r"255 is the id of \w+ and one of data\.void_ids.*Leave it out of data\.void_ids; or"):
        read_folder(root, "val", CLASSES, ids=(0, 1, 255))
    with pytest.raises(DataError, match=rf"0 is the id of {CLASSES[0]} and one of data\.void_ids.*\(data\.ids\)"):
        read_folder(root, "val", CLASSES, void_ids=(0, 255))
    assert read_folder(root, "val", CLASSES[1:], ids=range(1, len(CLASSES)), void_ids=(0, 255)).classes == tuple(CLASSES[1:])


def test_what_was_found_is_known_by_content_until_the_content_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXFUSE_CACHE", str(root.parent / "cache"))
    now, later = contents.time.time_ns, 10**10  # nobody can set back a status change: the clock is put forward
    monkeypatch.setattr(contents.time, "time_ns", lambda: now() + later)
    read_folder(root, "train", CLASSES)
    seen: list[Path] = []
    plain = contents._sha256
    monkeypatch.setattr(contents, "_sha256", lambda path: seen.append(path) or plain(path))
    read_folder(root, "train", CLASSES)
    assert not seen
    path = root / "train" / "labels" / "a.png"
    path.write_text("no mask")
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        read_folder(root, "train", CLASSES)
    assert seen == [path]
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):  # remembered as well
        read_folder(root, "train", CLASSES)


def test_a_check_hashes_anew_and_finds_what_changed_behind_the_file_systems_back(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("EXFUSE_CACHE", str(root.parent / "cache"))
    now = contents.time.time_ns
    monkeypatch.setattr(contents.time, "time_ns", lambda: now() + 10**10)
    before = read_folder(root, "train", CLASSES).manifest()
    path, stamp = root / "train" / "images" / "a.png", contents._stamp
    known = stamp(path)
    path.write_bytes(path.read_bytes() + b"rot")
    monkeypatch.setattr(contents, "_stamp", lambda asked: known if asked == path else stamp(asked))  # as a failing disk does
    assert read_folder(root, "train", CLASSES).manifest() == before
    with hashed_anew() as altered:
        assert read_folder(root, "train", CLASSES).manifest() != before
    assert altered == [path]
    with hashed_anew() as altered:
        read_folder(root, "train", CLASSES).manifest()
    assert altered == []


def test_an_image_is_held_out_under_any_name_and_behind_any_link(root: Path, tmp_path: Path) -> None:
    train = read_folder(root, "train", CLASSES)
    copy, link = tmp_path / "copy", tmp_path / "link"
    for where in (copy, link):
        for part in ("images", "labels"):
            (where / "val" / part).mkdir(parents=True)
    for part in ("images", "labels"):
        (copy / "val" / part / "renamed.png").write_bytes((root / "train" / part / "b.png").read_bytes())
        (link / "val" / part / "other.png").symlink_to(root / "train" / part / "c.png")
    for where, name, of in ((copy, "renamed", "b"), (link, "other", "c")):
        says = rf"share 1 image, e\.g\. .*train/images/{of}\.png, which is .*val/images/{name}\.png: unlist"
        with pytest.raises(DataError, match=says):
            check_disjoint(train, read_folder(where, "val", CLASSES))
    (root / "val").rename(root / "real")
    (root / "val").symlink_to(root / "train")
    with pytest.raises(DataError, match="share 3 images"):
        check_disjoint(train, read_folder(root, "val", CLASSES))
