import numpy as np
import pytest
from PIL import Image

from exfuse.composition.reading import read_split
from exfuse.data.census import census_lines
from exfuse.data.folder import read_folder
from exfuse.data.pixels import read_image, read_mask
from exfuse.errors import DataError, UserError
from exfuse.store.grouping import GroupRule, check_order, grouping_of

CLASSES = [f"class{number}" for number in range(21)]


@pytest.fixture
def root(tmp_path, ids_map, write_folder):
    masks = {name: ids_map(10, 14, seed=number) for number, name in enumerate(["b.JPG", "a.png", "d.webp", "c.bmp"])}
    return write_folder(tmp_path / "mine", "train", masks)


def test_images_of_any_format_come_in_the_order_of_their_names(root, ids_map):
    (root / "train" / "images" / "notes.txt").write_text("not an image")
    split = read_folder(root, "train", CLASSES)
    assert [item.image.name for item in split.items] == ["a.png", "b.JPG", "c.bmp", "d.webp"]
    for item, seed in zip(split.items, (1, 0, 3, 2), strict=True):
        np.testing.assert_array_equal(read_mask(item.mask, 21), ids_map(10, 14, seed=seed))
        np.testing.assert_array_equal(read_image(item.image), np.asarray(Image.open(item.image).convert("RGB")))


def test_pgm_is_read_where_a_range_says_what_its_values_mean(tmp_path, ids_map, write_folder):
    root = write_folder(tmp_path / "mine", "train", {f"{name}.jpg": ids_map(2, 3) for name in "ab"})
    (root / "train" / "images" / "b.jpg").unlink()
    (root / "train" / "images" / "b.pgm").write_bytes(b"P5 3 2 100\n" + bytes([0, 20, 40, 60, 80, 100]))
    with pytest.raises(DataError, match=r"not read for their format, e\.g\. b\.pgm\. Convert them to one of \.bmp \.jpeg"):
        read_folder(root, "train", CLASSES)
    split = read_folder(root, "train", CLASSES, channels=1, range=(0, 100))
    assert [item.id for item in split.items] == ["a", "b"]
    assert split.bands.read(split.items[1].image)[..., 0].tolist() == [[0, 51, 102], [153, 204, 255]]


def test_class_names_come_from_a_list_or_from_a_file_in_order(root):
    path = root / "classes.txt"
    path.write_text("\n".join(CLASSES) + "\n\n")
    for classes in (CLASSES, path, str(path)):
        assert read_folder(root, "train", classes).classes == tuple(CLASSES)


def test_a_missing_class_list_is_named(root):
    with pytest.raises(DataError, match=r"No class list .*mine/classes\.txt.*one class name a line"):
        read_folder(root, "train", root / "classes.txt")


def test_a_missing_label_is_named(root):
    (root / "train" / "labels" / "c.png").unlink()
    with pytest.raises(DataError, match=r"c is listed but its mask .*train/labels/c\.png does not exist"):
        read_folder(root, "train", CLASSES)


def test_two_images_of_one_name_are_refused(root):
    Image.new("RGB", (14, 10)).save(root / "train" / "images" / "a.jpg")
    with pytest.raises(DataError, match=r"train/images has several files called a\.\*"):
        read_folder(root, "train", CLASSES)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_missing_folder_is_named_with_what_to_set(root, part):
    (root / "train" / part).rename(root / "train" / "elsewhere")
    with pytest.raises(DataError, match=rf"no folder .*mine/train/{part}\. .*train has elsewhere, .*\. Set data\.root"):
        read_folder(root, "train", CLASSES)


def test_an_empty_folder_is_refused(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / "train" / part).mkdir(parents=True)
    with pytest.raises(DataError, match="lists no image at all"):
        read_folder(tmp_path, "train", CLASSES)


def test_any_id_can_mean_void(root, ids_map):
    split = read_folder(root, "train", CLASSES[:20], void_ids=(20, 255))
    written = ids_map(10, 14, seed=1)
    assert {20, 255} <= set(np.unique(written))
    read = read_mask(split.items[0].mask, 20, split.void_ids)
    np.testing.assert_array_equal(read, np.where(written == 20, 255, written))


def test_an_unknown_id_is_named_with_the_ones_that_are_known(root):
    says = r"labels/a\.png holds the ids \[20\].*19 classes 0\.\.18.*void \[19, 255\]"
    with pytest.raises(DataError, match=says):
        read_folder(root, "train", CLASSES[:19], void_ids=(19, 255))
    with pytest.raises(DataError, match=says):
        read_mask(root / "train" / "labels" / "a.png", 19, (19, 255))


def test_camvid_is_whole_and_its_unlabelled_id_is_void(real_data, compose_config):
    config = compose_config("data=camvid", f"data.root={real_data / 'camvid'}")
    train, val = (read_split(config.data, name) for name in ("train", "val"))
    assert (len(train), len(val)) == (367, 101)
    listed = (real_data / "camvid" / "classes.txt").read_text().splitlines()
    assert [f"{id} {name}" for id, name in enumerate(train.classes)] == listed[:11]
    seen = np.zeros(256, dtype=np.int64)
    for item in [*train.items[::10], *val.items[::10]]:
        written = np.asarray(Image.open(item.mask))
        read = read_mask(item.mask, 11, train.void_ids)
        np.testing.assert_array_equal(read == 255, written >= 11)
        np.testing.assert_array_equal(read[written < 11], written[written < 11])
        seen += np.bincount(read.ravel(), minlength=256)
    assert set(np.flatnonzero(seen)) == {*range(11), 255}


def test_images_that_are_not_independent_have_a_group(root):
    assert [item.group for item in read_folder(root, "train", CLASSES).items] == [""] * 4
    assert read_folder(root, "train", CLASSES).grouping.alone
    split = read_folder(root, "train", CLASSES, groups="([ab]|.)", ordered=True)
    assert (split.grouping.groups, split.grouping.ordered) == (("a", "b", "c", "d"), True)
    (root / "train" / "groups.txt").write_text("a one\nb one\nc two\nd two\n")
    split = read_folder(root, "train", CLASSES, groups="column")
    assert split.grouping.groups == ("one", "one", "two", "two")
    assert split.manifest() == read_folder(root, "train", CLASSES).manifest()  # nothing is trained otherwise


def test_an_order_is_that_of_groups_and_of_their_numbers(tmp_path, ids_map, write_folder):
    with pytest.raises(UserError, match=r"data\.ordered=true, and no data\.groups"):
        read_folder(write_folder(tmp_path, "train", {"a_1.png": ids_map(4, 5)}), "train", CLASSES, ordered=True)
    for number, names in enumerate((["a_1", "a_2", "a_10", "b_1"], ["a_01", "a_02", "a_10", "b_1"])):
        root = write_folder(tmp_path / str(number), "train", {f"{name}.png": ids_map(4, 5) for name in names})
        if number == 0:
            with pytest.raises(UserError, match=r"a_10 comes before a_2, .* all as long, with zeros in front"):
                read_folder(root, "train", CLASSES, groups="first_part", ordered=True)
            assert len(read_folder(root, "train", CLASSES, groups="first_part")) == 4
        else:
            ordered = read_folder(root, "train", CLASSES, groups="first_part", ordered=True)
            assert ordered.grouping.ordered
    check_order(["v_0009", "v_000a", "v_000b", "v_0010", "t1.25", "t1.50"], ["one"] * 6)  # no numbers, or in their order
    for names in (["c_10_l", "c_10_r", "c_1_l", "c_1_r"], ["a1.10", "a1.11", "a1.9"], ["2024.10_x", "2024.10_y", "2024.9_x"]):
        with pytest.raises(UserError, match=rf"{names[0]} comes before|{names[1]} comes before"):
            check_order(names, ["one"] * len(names))
    check_order(["c_01_l", "c_01_r", "c_10_l", "c_10_r"], ["one"] * 4)
    check_order([f"scan_{number:04x}.raw" for number in range(3000)], ["one"] * 3000)  # hexadecimal, all as long
    with pytest.raises(UserError, match="scan_10 comes before scan_9"):
        check_order(["scan_10", "scan_9", "scan_a"], ["one"] * 3)
    with pytest.raises(UserError, match="v_10a2 comes before v_1a10"):
        check_order(["v_0a10", "v_10a2", "v_1a10", "v_1b10"], ["one"] * 4)
    check_order(["b9", "b10", "a10", "a9"], ["one"] * 4)  # somebody's own order
    with pytest.raises(UserError, match="100 comes before 10,"):  # as files are sorted that are called NAME_leftImg8bit.png
        check_order(["100", "10", "11", "1", "2", "9"], ["one"] * 6)
    names = ["v_9", "v_10", "v_9-b", "v_10-b", "v_10 (1)"]  # sorted with their endings, in which "-" and blank come before "."
    root = write_folder(tmp_path / "views", "train", {f"{name}.png": ids_map(4, 5) for name in names})
    with pytest.raises(UserError, match=r"v_10.* comes before v_9"):
        read_folder(root, "train", CLASSES, groups="first_part", ordered=True)
    with pytest.raises(UserError, match="clip_10 comes before clip_2"):
        grouping_of(["clip_1", "clip_10", "clip_2"], GroupRule("([^_]+)_", ordered=True))
    assert census_lines(ordered)[0].startswith("folder train: 4 images in 2 groups, each in its order, ")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a one\nb one\nc two\n", "does not name d"),
        ("a one\na two\n", "lists a twice"),
        ("a\nb one\n", "expected an id and its group"),
    ],
)
def test_lists_of_groups_that_cannot_be_used_are_refused(root, lines, message):
    (root / "train" / "groups.txt").write_text(lines)
    with pytest.raises(DataError, match=message):
        read_folder(root, "train", CLASSES, groups="column")


def test_a_missing_list_of_groups_is_named(root):
    with pytest.raises(DataError, match=r"groups\.txt"):
        read_folder(root, "train", CLASSES, groups="column")
