"""Lists of ids and of classes, whichever program wrote them: read for what they say, or refused with what is wrong."""

import codecs
from pathlib import Path

import numpy as np
import pytest

from exfuse.data.folder import read_folder
from exfuse.data.text import read_class_names, read_groups, read_id_list
from exfuse.data.voc import read_voc
from exfuse.errors import DataError

ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with BOM": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16 little": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16 big": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "windows line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "old mac line ends": lambda text: text.replace("\n", "\r").encode(),
    "blanks and empty lines": lambda text: text.replace("\n", " \t\n\n").encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_that_says_what_it_is_reads_alike(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(ENCODINGS[encoding]("bière\nérable\nzoo\n"))
    assert read_id_list(path, "") == read_class_names(path) == ["bière", "érable", "zoo"]


@pytest.mark.parametrize(
    "content", ["bière\nzoo\n".encode("latin-1"), "ab\ncd\n".encode("utf-16-le"), b"a\0b\nc\n", codecs.BOM_UTF16_LE + b"a"]
)
def test_what_says_nothing_of_its_encoding_and_is_no_utf_8_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    for read in (lambda: read_id_list(path, ""), lambda: read_class_names(path)):
        with pytest.raises(DataError, match=r"list\.txt is no text in UTF-8.*Save it as UTF-8"):
            read()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a1 1\na2 -1\n", r"entry 1: 'a1 1' has 2 columns, expected one id a line.*one class"),
        ("a\nb c d\n", r"entry 2: 'b c d' has 3 columns"),
        ("a\nb\na\nb\n", "lists a twice and 1 more"),
        ("a\n../../esc/evil\n", r"names '\.\./\.\./esc/evil': expected the name of a file, without its folder"),
        ("/etc/passwd\n", "without its folder"),
        ("a/b\n", "without its folder"),
        ("..\n", "without its folder"),
        ("a\\b\n", "without its folder"),
        ("a\x1b[31mb\n", "without its folder"),
        (f"{'a' * 300}\n", "without its folder"),
    ],
)
def test_lines_that_are_no_ids_are_refused_with_what_they_are(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(text.encode())
    with pytest.raises(DataError, match=says) as refusal:
        read_id_list(path, "")
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("road\nsky\nroad\n", "lists road twice"),
        ("0 road\n1 sky\n", "begins its lines with numbers, such as '0 road'"),
        ("0: road\n1: sky\n", "begins its lines with numbers"),
        ("name,r,g,b\nroad,128,64,128\nsky,0,0,255\n", "has columns, such as 'road,128,64,128'"),
        ("road\t128\nsky\t7\n", "has columns"),
        ("id,name\n0,road\n1,sky\n", "has columns, such as '0,road' below 'id,name'"),
        ("id name\n1 road\n2 sky\n", "has columns"),
        ("road\n", "names 1 class: expected 2 to 255"),
        ("\n\n", "names 0 classes: expected 2 to 255"),
        ("".join(f"class{number}\n" for number in range(256)), "names 256 classes: expected 2 to 255"),
        ("road\nsky\x07\n", "can be shown"),
    ],
)
def test_class_lists_that_would_be_misread_are_refused_with_what_they_are(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as refusal:
        read_class_names(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("name", ["dining table", "tench, Tinca tinca", "7up bottle", "[/bold]", "=1+1", "no\u00a0break"])
def test_names_may_hold_what_people_write_in_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(f"background\n{name}\n")
    assert read_class_names(path) == ["background", name]


def test_digits_are_names_of_classes_too(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("background\n0\n1\n2\n")
    assert read_class_names(tmp_path / "classes.txt") == ["background", "0", "1", "2"]


def test_groups_of_images_whose_names_hold_blanks(tmp_path: Path) -> None:
    (tmp_path / "groups.txt").write_text("Shot 3.45\u202fPM patient7\nb patient8\n")
    assert read_groups(tmp_path / "groups.txt", "") == {"Shot 3.45\u202fPM": "patient7", "b": "patient8"}
    (tmp_path / "groups.txt").write_text("alone\n")
    with pytest.raises(DataError, match="entry 1: expected an id and its group, got 'alone' alone"):
        read_groups(tmp_path / "groups.txt", "")


def test_names_in_a_config_are_held_to_the_same(tmp_path: Path, ids_map, write_folder, write_voc) -> None:
    write_folder(tmp_path / "mine", "train", {"a.png": ids_map(8, 9) % 2})
    write_voc(tmp_path / "voc", {"a": ids_map(8, 9) % 2}, {"train": ["a"]})
    for classes, says in (
        (["one", "one"], "lists one twice"),
        (["one"], "names 1 class"),
        (["one", " "], "names a class ' '"),
    ):
        for read in (read_folder, read_voc):
            with pytest.raises(DataError, match=says):
                read(tmp_path / ("mine" if read is read_folder else "voc"), "train", classes)


@pytest.mark.parametrize("other", ["b.PNG", "b_mask.png", "B.png", "b.jpg.png"])
def test_files_that_may_be_meant_are_named_or_taken(tmp_path: Path, ids_map, write_folder, other: str) -> None:
    root = write_folder(
        tmp_path / "mine", "train", {f"{name}.jpg": ids_map(8, 9, seed=number) for number, name in enumerate("ab")}
    )
    labels = root / "train" / "labels"
    (labels / "b.png").rename(labels / other)
    classes = [f"class{number}" for number in range(21)]
    if other == "b.PNG":
        assert [item.mask.name for item in read_folder(root, "train", classes).items] == ["a.png", "b.PNG"]
        return
    with pytest.raises(DataError, match=rf"mask .*labels/b\.png does not exist\. The folder holds {other}\."):
        read_folder(root, "train", classes)


def test_images_of_a_format_that_is_not_read_are_refused_and_what_else_is_left_out_is_said(tmp_path, ids_map, write_folder):
    names = [f"{name}.jpg" for name in "abcdefgh"]
    root = write_folder(tmp_path / "mine", "train", {name: ids_map(8, 9, seed=number) for number, name in enumerate(names)})
    images, classes = root / "train" / "images", [f"class{number}" for number in range(21)]
    for name in "bdf":
        (images / f"{name}.jpg").rename(images / f"{name}.gif")
    with pytest.raises(DataError, match=r"images holds 3 images that are not read for their format, e\.g\. b\.gif\. Convert"):
        read_folder(root, "train", classes)
    for name in "bdf":
        (images / f"{name}.gif").rename(images / f"{name}.xyz")  # of an unknown format, but with a mask
    with pytest.raises(DataError, match=r"holds 3 images that are not read"):
        read_folder(root, "train", classes)
    for name in "bdf":
        (images / f"{name}.xyz").unlink()
    (images / ".DS_Store").write_text("a system's own")
    (images / "notes.txt").write_text("mine")
    (images / "a.tfw").write_text("where a lies")  # beside an image of this name
    split = read_folder(root, "train", classes)
    assert [item.id for item in split.items] == list("acegh")
    assert split.left_out == f"5 files in {root / 'train'}, e.g. images/a.tfw"
    assert all(np.array_equal(split.mask(at), ids_map(8, 9, seed=2 * at if at < 4 else 7)) for at in range(5))
