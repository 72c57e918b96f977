import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from exfuse.composition import reading
from exfuse.data import subsets
from exfuse.data.folder import read_folder
from exfuse.data.split import Item, Split, make_split
from exfuse.data.subsets import divide
from exfuse.errors import ConfigError, DataError
from exfuse.palette import VOID
from exfuse.store.description import Option

CLASSES = ("one", "two", *[f"class{number}" for number in range(19)])


@pytest.fixture
def root(tmp_path, ids_map, write_folder) -> Path:
    return write_folder(tmp_path / "here", "train", {f"{name}.png": ids_map(8, 9, seed=7) for name in "abc"})


def manifest(root: Path, order: str = "abc", classes: tuple[str, ...] = CLASSES, void: tuple[int, ...] = (VOID,)) -> str:
    folder = root / "train"
    items = [Item(name, folder / "images" / f"{name}.png", folder / "labels" / f"{name}.png") for name in order]
    return make_split("name", items, classes, void).manifest()


def test_manifest_is_the_same_wherever_the_files_lie(root, tmp_path):
    before = manifest(root)
    assert len(before) == 64
    shutil.copytree(root, tmp_path / "far" / "away")
    assert manifest(tmp_path / "far" / "away") == before
    assert read_folder(root, "train", CLASSES, name="another name").manifest() == before


def test_manifest_changes_with_classes_void_order_and_number_of_images(root):
    manifests = [
        manifest(root),
        manifest(root, order="acb"),
        manifest(root, order="ab"),
        manifest(root, classes=(*CLASSES[:-1], "other")),
        manifest(root, classes=(CLASSES[1], CLASSES[0], *CLASSES[2:])),
        manifest(root, classes=(*CLASSES, "more")),
        manifest(root, void=(200, VOID)),
    ]
    assert len(set(manifests)) == len(manifests)


@pytest.mark.parametrize("file", ["images/b.png", "labels/b.png"])
def test_manifest_changes_with_one_bit_of_any_file(root, file):
    before = manifest(root)
    path = root / "train" / file
    content, times = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as programs do that restore it
    assert manifest(root) != before


def test_manifest_changes_with_the_name_of_a_file(root):
    before = manifest(root)
    for part in ("images", "labels"):
        (root / "train" / part / "c.png").rename(root / "train" / part / "d.png")
    assert manifest(root, order="abd") != before


def test_an_item_takes_paths_as_text(root):
    item = Item("a", f"{root}/train/images/a.png", f"{root}/train/labels/a.png")
    assert item.image.name == "a.png"
    assert len(make_split("name", [item], CLASSES)) == 1


@pytest.mark.parametrize("ids", [[7], [7, 7, 8], range(9)])
def test_ids_that_are_not_one_for_each_class_are_refused(tmp_path, ids):
    with pytest.raises(DataError, match=rf"data\.ids has {len(set(ids))} different ids for {len(CLASSES)} classes"):
        make_split("name", [Item("a", tmp_path / "a", tmp_path / "a")], CLASSES, ids=ids)


def test_sizes_and_ids_are_not_run_together(tmp_path):
    """Moving a digit from one size to the next, or from an id to a size, is another data set."""

    def of_sizes(*sizes: int) -> str:
        items = []
        for number, size in enumerate(sizes):
            path = tmp_path / f"{number}.png"
            Image.new("L", (1, 1)).save(path)
            path.write_bytes(path.read_bytes().ljust(size, b"\0"))
            items.append(path)
        return make_split("name", [Item("a", items[0], items[1])], CLASSES).manifest()

    assert of_sizes(1112, 111) != of_sizes(111, 2111)


def listed(number, group=1):
    """So many images that nobody reads, each so many in a row of one group."""
    items = [
        Item(f"{place // group:03d}/{place % group}", Path(f"{place}.png"), Path(f"{place}.png")) for place in range(number)
    ]
    return Split("made up", tuple(items), ("one", "two"))


def test_a_part_is_held_out_whole_once_and_the_same_for_everybody():
    train = listed(50)
    parts = divide(train, 0.2, seed=7)
    assert len(parts["val"]) == 10
    assert {*parts["train"].items, *parts["val"].items} == {*train.items}
    assert not {*parts["train"].items} & {*parts["val"].items}
    assert [item for item in train.items if item in parts["val"].items] == [*parts["val"].items]  # in their order
    elsewhere = Split(
        "made up", tuple(Item(item.id, Path("/far") / item.image, item.mask) for item in train.items), train.classes
    )
    assert [item.id for item in divide(elsewhere, 0.2, 7)["val"].items] == [item.id for item in parts["val"].items]
    assert divide(train, 0.2, seed=8)["val"].items != parts["val"].items


@pytest.mark.parametrize(("number", "size", "share"), [(60, 6, 0.2), (60, 7, 0.2), (61, 20, 0.2), (90, 30, 0.5)])
def test_groups_stay_together(monkeypatch, number, size, share):
    monkeypatch.setattr(subsets, "group_of", lambda item: item.id.partition("/")[0])
    train = listed(number, size)
    for seed in range(10):
        parts = divide(train, share, seed)
        groups = [{item.id.partition("/")[0] for item in part.items} for part in parts.values()]
        assert not groups[0] & groups[1]
        assert abs(len(parts["val"]) - share * number) <= max(size / 2, min(size, number % size or size))


def test_of_a_single_group_the_last_images_in_a_row_are_held_out(monkeypatch):
    monkeypatch.setattr(subsets, "group_of", lambda _: "one sequence")
    assert [item.id for item in divide(listed(10, 10), 0.2, 0)["val"].items] == ["000/8", "000/9"]


def test_a_part_of_too_few_images_is_refused():
    with pytest.raises(DataError, match="1 image in 1 group"):
        divide(listed(1), 0.2, 0)


@pytest.mark.parametrize("given", [None, [], "train"])
def test_a_reader_that_gives_no_split_is_named(monkeypatch, given):
    monkeypatch.setattr(reading, "build", lambda *_: given)
    with pytest.raises(ConfigError, match=rf"data=mine: its reader gave {type(given).__name__} for train, expected exfuse"):
        reading.read_split(Option("mine"), "train")
