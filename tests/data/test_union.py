from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exfuse.composition.reading import read_split
from exfuse.data.coco_masks import convert_split
from exfuse.data.pixels import read_mask
from exfuse.data.split import Split, check_disjoint
from exfuse.data.subsets import join_splits, seen_in_training
from exfuse.data.voc import read_voc
from exfuse.errors import DataError
from exfuse.store.description import RunDescription
from tests.data.coco_files import VOC, rectangle, write_coco
from tests.data.test_sbd import write_mat
from tests.extras import require


@pytest.fixture
def split_of(tmp_path: Path, ids_map, write_voc) -> Callable[..., Split]:
    """``split_of("a", ["x", "y"])``: a split of its own folder with these ids."""

    def made(name: str, ids: list[str]) -> Split:
        seed = sum(map(ord, name))
        masks = {id: ids_map(6, 7, seed=seed + number) for number, id in enumerate(ids)}
        return read_voc(write_voc(tmp_path / name, masks, {"train": ids}), "train", VOC, name=name)

    return made


def test_a_union_has_each_image_once_from_the_first_part_and_none_that_is_held_out(split_of) -> None:
    first, second, val = split_of("a", ["x", "y", "v"]), split_of("b", ["z", "y", "w"]), split_of("c", ["v", "w"])
    union = join_splits([first, second], val, "a + b")
    assert [item.id for item in union.items] == ["x", "y", "z"]
    assert union.items[1].mask == first.items[1].mask
    assert union.name == "a + b train"
    check_disjoint(union, val)
    assert join_splits([second, first], val, "b + a").items[1] == second.items[1]


def test_an_image_that_is_held_out_under_another_id_is_refused(split_of) -> None:
    train, val = split_of("a", ["x", "y"]), split_of("c", ["v"])
    hidden = replace(val, items=(replace(val.items[0], image=train.items[0].image),))
    with pytest.raises(DataError, match=r"share 1 image.*x\.jpg"):
        join_splits([train], hidden, "a")


def test_what_cannot_be_joined_is_refused(split_of) -> None:
    train, val = split_of("a", ["x"]), split_of("c", ["v"])
    with pytest.raises(DataError, match="a train and other have different classes"):
        join_splits([train, replace(train, name="other", classes=VOC[::-1])], val, "u")
    with pytest.raises(DataError, match="a train and other have different classes, voids or bands"):
        join_splits([train, replace(train, name="other", void_ids=(254, 255))], val, "u")
    with pytest.raises(DataError, match="no image that is not held out"):
        join_splits([val], val, "u")
    with pytest.raises(DataError, match="union of no data set"):
        join_splits([], val, "u")


def test_images_seen_in_training_say_so(split_of) -> None:
    train = split_of("a", ["x", "y"])
    seen = seen_in_training(train)
    assert "seen in training" in seen.name
    check_disjoint(train, seen)
    with pytest.raises(DataError, match="share 2 images"):
        check_disjoint(train, train)
    assert seen.manifest() == train.manifest()


@pytest.fixture
def all_layouts(tmp_path: Path, ids_map, write_voc) -> dict[str, Path]:
    """VOC, SBD, which overlaps VOC's train and val, and COCO."""
    require("coco")
    voc, sbd, coco = tmp_path / "VOC2012", tmp_path / "sbd", tmp_path / "coco"
    ids = ["2007_01", "2007_02", "2008_01", "2010_09"]
    write_voc(
        voc,
        {id: ids_map(6, 7, seed=number) for number, id in enumerate(ids)},
        {"train": ids[:2], "val": [ids[2]], "trainval": ids[:3]},
    )
    for id in ("2007_02", "2008_01", "2010_09"):
        write_mat(sbd / "cls" / f"{id}.mat", np.full((6, 7), 3, np.uint8))
    (sbd / "train.txt").write_text("2007_02\n2010_09\n")
    (sbd / "val.txt").write_text("2008_01\n")
    for split, file in (("train2017", "000000000009.jpg"), ("val2017", "000000000139.jpg")):
        write_coco(coco, split, {file: (6, 7)}, [{"image": file, "category": "cat", "segmentation": rectangle(0, 0, 4, 4)}])
        convert_split(coco, split, VOC, 10)
    return {"root": voc, "sbd_root": sbd, "coco_root": coco}


def test_the_config_joins_coco_sbd_and_voc_and_leaves_vocs_val_out(
    compose_config: Callable[..., RunDescription], all_layouts: dict[str, Path]
) -> None:
    places = [f"data.{key}={path}" for key, path in all_layouts.items()]
    config = compose_config(
        "data=voc_coco", *places, "data.minimum_pixels=10", "data.counts.train_aug=null", "data.counts.val=null"
    )
    train, val = read_split(config.data, "train"), read_split(config.data, "val")
    ids = ["000000000009", "000000000139", "2007_01", "2007_02", "2010_09"]
    assert [item.id for item in train.items] == ids
    assert train.name == "VOC 2012 + SBD + COCO train"
    np.testing.assert_array_equal(read_mask(train.items[4].mask, 21), np.full((6, 7), 3))
    check_disjoint(train, val)


def test_trainval_trains_on_what_it_is_scored_on_and_says_so(
    compose_config: Callable[..., RunDescription], all_layouts: dict[str, Path]
) -> None:
    counts = ["data.counts.trainval=3", "data.counts.val=1"]
    config = compose_config("data=voc_trainval", f"data.root={all_layouts['root']}", *counts)
    train, val = read_split(config.data, "train"), read_split(config.data, "val")
    assert (len(train), len(val)) == (3, 1)
    assert "seen in training" in val.name
    assert "trained on its val" in config.data.settings["name"]
    check_disjoint(train, val)
