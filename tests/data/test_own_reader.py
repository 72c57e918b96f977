"""A reader of one's own: what the data set's file says at its top must be what the reader was told."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exfuse.composition import reading
from exfuse.data.bands import Bands
from exfuse.data.split import Item, Split, make_split
from exfuse.errors import ConfigError, DataError
from exfuse.store.description import Option

ITEM = Item("a", Path("a.png"), Path("a_mask.png"))
GROUPED = Item("a", Path("a.png"), Path("a_mask.png"), group="g")
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what the file says at its top, and what the reader gave
    "channels": ({"channels": 5}, {}),
    "channels, by the reader": ({}, {"bands": Bands(5)}),
    "range": ({"range": [0, 128]}, {}),
    "range, by the reader": ({"range": None}, {"bands": Bands(3, (0, 128))}),
    "ordered, without": ({"ordered": True}, {"items": (GROUPED,)}),
    "range, another": ({"range": [0, 128]}, {"bands": Bands(3, (0, 255))}),
    "classes": ({"classes": ["a", "c"]}, {}),
    "void_ids": ({"void_ids": [7]}, {}),
    "ids": ({"ids": [1, 0]}, {}),
    "counts": ({"counts": {"train": 1, "val": 99}}, {}),
    "groups": ({"groups": "first_part"}, {}),
    "groups, others": ({"groups": "first_part"}, {"items": (GROUPED,)}),
    "ordered": ({"ordered": True}, {}),
    "ordered, by the reader": ({"ordered": False}, {"ordered": True}),
    "ordered, in groups": ({"groups": "column"}, {"items": (GROUPED,), "ordered": True}),
    "orientation, by the reader": ({}, {"orientation": "stored"}),
    "orientation, another": ({"orientation": "upright"}, {"orientation": "stored"}),
    "orientation": ({"orientation": "stored"}, {"items": (Item("a", Path("a.png"), Path("b.png"), upright=True),)}),
}
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"channels": 3, "range": None, "groups": None, "ordered": False, "void_ids": [255], "orientation": "refuse"}, {}),
    ({"channels": 5, "range": [0, 128], "classes": ["a", "b"]}, {"bands": Bands(5, (0.0, 128.0))}),
    ({"groups": "first_part"}, {"items": (Item("g_1", Path("a.png"), Path("b.png"), group="g"),)}),
    ({"groups": "column", "ordered": True}, {"items": (GROUPED,), "ordered": True}),
    ({}, {"items": (GROUPED,), "ordered": True}),
    ({"ordered": None}, {}),
    ({"ids": None, "counts": {"train": 99, "val": 1}}, {}),
    ({"ids": [7, 2], "counts": {"val": None}}, {"ids": (7, 2)}),
    ({"groups": "column", "ordered": None}, {"items": (GROUPED,)}),
    ({"range": [0, 128]}, {"bands": Bands(3, [0, 128])}),  # type: ignore[arg-type]  # as a YAML file has it
    ({"orientation": "upright"}, {"orientation": "upright"}),
    ({"orientation": "stored"}, {"orientation": "stored"}),
    ({"classes": "classes.txt", "void_ids": None}, {}),
]


def read(monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], given: dict[str, Any], part: str = "val") -> Split:
    split = Split(**{"name": "own val", "items": (ITEM,), "classes": ("a", "b")} | given)
    monkeypatch.setattr(reading, "build", lambda *_: split)
    monkeypatch.setattr(reading, "check_labels", lambda _: None)
    return reading.read_split(Option("own", said), part)


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_reach_the_reader_is_named(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=rf"data=own: data\.{case.partition(',')[0]} is .*, its reader gave .* for val"):
        read(monkeypatch, *CASES[case])


@pytest.mark.parametrize(
    "said",
    [
        {"range": [0]},
        {"range": 255},
        {"range": ["0", 1]},
        {"channels": "3"},
        {"channels": 0},
        {"groups": False},
        {"channels": True},
        {"range": [5, 5]},
        {"range": [0, float("nan")]},
        {"void_ids": 255},
        {"orientation": "sideways"},
    ],
    ids=str,
)
def test_what_the_top_cannot_say_is_named(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    key, value = next(iter(said.items()))
    with pytest.raises(ConfigError, match=rf"data\.{key}={re.escape(repr(value))}: expected "):
        read(monkeypatch, said, {})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"items": [{"id": "a"}]}, r"was given \{'id': 'a'\} in items, expected exfuse\.data\.split\.Item"),
        ({"items": "a.png"}, r"was given items='a\.png', expected a list"),
        ({"classes": [0, 1]}, "was given 0 in classes, expected text"),
        ({"classes": "ab"}, "was given classes='ab', expected a list"),
        ({"classes": [f"c{number}" for number in range(256)]}, "was given 256 classes, expected 255 at most"),
        ({"void_ids": [300]}, "was given 300 in void_ids, expected a number from 0 to 255"),
        ({"void_ids": ["255"]}, "was given '255' in void_ids, expected a number"),
        ({"void_ids": 255}, "was given void_ids=255, expected a list"),
        ({"ids": [0, 1.5]}, r"was given 1\.5 in ids, expected a number"),
        ({"bands": (3, None)}, r"was given \(3, None\) in bands, expected exfuse\.data\.bands\.Bands"),
        ({"bands": None}, "was given None in bands, expected"),
        ({"bands": Bands(3, (5, 5))}, r"was given bands of range=\[5, 5\]: expected \[LOW,HIGH\], the first smaller"),
        ({"items": [Item(7, Path("a.png"), Path("b.png"))]}, r"was given Item\(id=7, .* expected exfuse\.data\.split\.Item of"),  # type: ignore[arg-type]
        ({"bands": Bands(3, (0, 10**400))}, r"was given bands of range=\[0, 10+\]: expected"),
        ({"orientation": "sideways"}, "was given 'sideways' in orientation, expected refuse or "),
    ],
    ids=str,
)
def test_a_reader_that_gives_make_split_something_else_is_told_so(given: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=f"own val: make_split {says}"):
        make_split(**{"name": "own val", "items": (ITEM,), "classes": ("a", "b")} | given)


def test_make_split_takes_iterators_and_numpys_numbers_as_it_takes_lists(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(tmp_path / "a_mask.png")

    def split(**given: Any) -> Split:
        given = {"classes": ["a", "b"], "void_ids": [7, 255], "ids": [0, 1], "bands": Bands(3, (0, 128))} | given
        return make_split("own val", [Item("a", tmp_path / "a.png", tmp_path / "a_mask.png")], **given)

    plain = split()
    others = [
        {"classes": iter("ab"), "void_ids": map(int, ["7", "255"]), "ids": iter(range(2))},
        {"classes": np.array(["a", "b"]), "void_ids": np.array([7, 255]), "ids": np.array([0, 1])},
        {"bands": Bands(np.int64(3), tuple(np.array([0, 128])))},  # type: ignore[arg-type]
        {"bands": Bands(3, [0, 128])},  # type: ignore[arg-type]
    ]
    for other in others:
        found = split(**other)
        assert found.manifest() == plain.manifest()
        assert found.mask(0).tolist() == plain.mask(0).tolist() == [[255] * 5] * 4


@pytest.mark.parametrize(("said", "given"), SAME)
def test_what_reaches_it_is_read(said: dict[str, Any], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, said, given).classes == ("a", "b")


@pytest.mark.parametrize("rule", ["first_part", "([0-9]+)_"])  # the latter fits no name of these
def test_images_to_train_on_may_stand_alone(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of VOC's augmented set do, whose val has groups."""
    assert not read(monkeypatch, {"groups": rule, "ordered": True}, {}, "train").ordered
