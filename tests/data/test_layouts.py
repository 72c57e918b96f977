"""Data sets in the layouts of their owners, and annotations as polygons, converted: small made-up trees."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exfuse.config.overrides import compose_config
from exfuse.data.census import count_classes
from exfuse.data.folder import read_folder
from exfuse.data.split import check_disjoint
from exfuse.data.street_and_scene import read_ade20k, read_cityscapes
from exfuse.data.subsets import join_splits
from exfuse.data.voc import read_train_aug_png, read_voc
from exfuse.data_setup import converting
from exfuse.data_setup.converting import convert
from exfuse.errors import DataError
from tests.command import Command
from tests.data.conftest import save_image

CITIES = {"train": ["aachen_000000_000019", "bochum_000000_000313"], "val": ["frankfurt_000000_000294"]}
CLASSES = [f"class{number}" for number in range(21)]


def save_ids(path: Path, ids: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint8)).save(path)
    return ids


def street(root: Path) -> dict[str, np.ndarray]:
    """Cityscapes' tree: every one of its own ids at random; the masks as they are stored."""
    stored = {}
    for split, names in CITIES.items():
        for seed, name in enumerate(names):
            city = name.partition("_")[0]
            save_image(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", 24, 40, seed=len(split) + seed)
            drawn = np.random.default_rng(seed).integers(0, 34, (24, 40))
            stored[name] = save_ids(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", drawn)
            save_ids(root / "gtFine" / split / city / f"{name}_gtFine_instanceIds.png", drawn)
    return stored


def test_cityscapes_own_ids_become_its_19_classes(tmp_path: Path) -> None:
    stored, data = street(tmp_path), compose_config("train", ["data=cityscapes"])[0].data
    train, val = (read_cityscapes(tmp_path, split, data.classes, data.ids) for split in ("train", "val"))
    assert [item.id for item in train.items] == CITIES["train"]
    check_disjoint(train, val)
    known = {7: "road", 8: "sidewalk", 11: "building", 17: "pole", 24: "person", 26: "car", 31: "train", 33: "bicycle"}
    mask, ids = train.mask(1), stored[CITIES["train"][1]]
    for id, name in known.items():
        assert (ids == id).any()
        assert ((mask == list(data.classes).index(name)) == (ids == id)).all()
    assert (mask[np.isin(ids, [0, 1, 6, 9, 16, 29, 30])] == 255).all()  # unlabelled, ego vehicle, ground, parking, caravan, ...
    census = count_classes(train)
    assert census.pixels.tolist() == [sum(int((train.mask(at) == place).sum()) for at in (0, 1)) for place in range(19)]
    assert census.void == sum(int((train.mask(at) == 255).sum()) for at in (0, 1))
    other = read_cityscapes(tmp_path, "train", data.classes, [*reversed(data.ids)])
    assert other.manifest() != train.manifest()
    with pytest.raises(DataError, match="cannot be joined"):
        join_splits([train, other], val, "both")
    assert len(join_splits([train], val, "one").mask(0)) == 24


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "gtFine").rename(root / "labels"), "no folder .*gtFine"),
        (lambda root: [path.unlink() for path in root.rglob("*labelIds.png")], "its mask .*labelIds.png does not exist"),
        (lambda root: [path.unlink() for path in root.rglob("*_leftImg8bit.png")], "holds no such image, expected a folder"),
        (
            lambda root: [path.rename(path.parents[1] / path.name) for path in root.rglob("train/*/*_leftImg8bit.png")],
            "images beside one another",
        ),
        (
            lambda root: save_ids(next(root.rglob("aachen*labelIds.png")), np.full((24, 40), 77)),
            r"ids \[77\].*classes 7, 8",
        ),
    ],
)
def test_what_is_no_cityscapes_is_refused_in_words(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    street(tmp_path)
    spoil(tmp_path)
    data = compose_config("train", ["data=cityscapes"])[0].data
    with pytest.raises(DataError, match=says):
        read_cityscapes(tmp_path, "train", data.classes, data.ids)


def scene(root: Path) -> np.ndarray:
    """ADE20K's tree with three classes; the first training mask as it is stored."""
    table = "Idx\tRatio\tTrain\tVal\tName\n1\t0.2\t9\t1\twall\n2 \t0.1\t9\t1\tbuilding, edifice\n3\t0.1\t9\t1\tbed \n"
    root.mkdir(parents=True)
    (root / "objectInfo150.txt").write_text(table)
    stored = []
    for place in ("training/ADE_train_00000001", "training/ADE_train_00000002", "validation/ADE_val_00000001"):
        save_image(root / "images" / f"{place}.jpg", 20, 30, seed=len(stored))
        drawn = np.random.default_rng(len(stored)).integers(0, 4, (20, 30))
        stored.append(save_ids(root / "annotations" / f"{place}.png", drawn))
    return stored[0]


def test_ade20ks_zero_is_void_and_its_names_come_with_it(tmp_path: Path) -> None:
    stored = scene(tmp_path / "ADE")
    train, val = (read_ade20k(tmp_path / "ADE", split) for split in ("train", "val"))
    assert (train.classes, len(train), len(val)) == (("wall", "building", "bed"), 2, 1)
    assert (train.mask(0) == np.where(stored == 0, 255, stored - 1)).all()
    check_disjoint(train, val)
    (tmp_path / "ADE" / "objectInfo150.txt").write_text("1\twall, a\n2\twall, b\n3\tbed\n")
    assert read_ade20k(tmp_path / "ADE", "val").classes == ("wall, a", "wall, b", "bed")  # first words that are the same


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "images" / "training").rename(root / "images" / "train"), "no folder .*images/training"),
        (lambda root: (root / "objectInfo150.txt").unlink(), "No list file .*objectInfo150"),
        (lambda root: (root / "objectInfo150.txt").write_text("wall\nbed\n"), "no list of classes|class"),
        (lambda root: save_ids(next(root.rglob("ADE_train*.png")), np.full((20, 30), 9)), r"ids \[9\]"),
    ],
)
def test_what_is_no_ade20k_is_refused_in_words(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    scene(tmp_path / "ADE")
    spoil(tmp_path / "ADE")
    with pytest.raises(DataError, match=says):
        read_ade20k(tmp_path / "ADE", "train")


@pytest.fixture
def aug(tmp_path: Path, ids_map: Callable[..., np.ndarray], write_voc: Callable[..., Path]) -> Path:
    """VOC with PNG masks of SBD beside its own: three to train on, one of them VOC's, and one to score on."""
    masks = {name: ids_map(12, 16, seed) for seed, name in enumerate(("v1", "s1", "s2", "w1"))}
    root = write_voc(tmp_path / "VOC2012", masks, {"train": ["v1"], "val": ["w1"], "train_aug": ["v1", "s1", "s2"]})
    (root / "SegmentationClassAug").mkdir()
    for name in ("v1", "s1", "s2"):
        save_ids(root / "SegmentationClassAug" / f"{name}.png", masks[name])  # grey, as most copies are
        if name != "v1":
            (root / "SegmentationClass" / f"{name}.png").unlink()
    return root


@pytest.mark.parametrize("line", ["{id}", "/JPEGImages/{id}.jpg /SegmentationClassAug/{id}.png"])
def test_segmentation_class_aug_is_read_by_either_form_of_its_list(aug: Path, line: str) -> None:
    listed = aug / "ImageSets" / "Segmentation" / "train_aug.txt"
    listed.write_text("".join(f"{line.format(id=id)}\n" for id in ("v1", "s1", "s2")))
    train = read_train_aug_png(aug, CLASSES, counts={"train_aug": 3})
    assert [item.id for item in train.items] == ["v1", "s1", "s2"]
    assert (train.mask(1) == np.asarray(Image.open(aug / "SegmentationClassAug" / "s1.png"))).all()
    check_disjoint(train, read_voc(aug, "val", CLASSES))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("v1\nw1\n", "lists 1 image of VOC's val, e.g. w1"),
        ("v1\ns1 1\n", "'s1 1' is no id"),
        ("/JPEGImages/s1.jpg /SegmentationClassAug/s2.png\n", "is no id"),
        ("../s1\n", "is no id"),
        ("v1\nv1\n", "v1"),
        ("v1\ns3\n", "s3 is listed but its image"),
        (None, "No list file"),
    ],
)
def test_a_list_of_segmentation_class_aug_that_cannot_be_right_is_refused(aug: Path, content: str | None, says: str) -> None:
    listed = aug / "ImageSets" / "Segmentation" / "train_aug.txt"
    listed.unlink() if content is None else listed.write_text(content)
    with pytest.raises(DataError, match=says):
        read_train_aug_png(aug, CLASSES)


def test_a_copy_without_its_png_masks_is_told_of_the_other_form(aug: Path) -> None:
    (aug / "SegmentationClassAug").rename(aug / "other")
    with pytest.raises(DataError, match="choose data=voc_aug"):
        read_train_aug_png(aug, CLASSES)


def square(left: int, top: int, side: int) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def coco(folder: Path) -> Path:
    """A JSON of two images as tools export it, a large sofa under a small cat, and a crowd."""
    for name in ("a", "b"):
        save_image(folder / "photos" / f"{name}.jpg", 20, 30, seed=ord(name))
    runs = {"size": [20, 30], "counts": [596, 4]}
    shapes = [
        {"id": 1, "image_id": 7, "category_id": 5, "area": 9, "segmentation": [square(4, 4, 3)]},
        {"id": 2, "image_id": 7, "category_id": 9, "area": 100, "segmentation": [square(2, 2, 10)]},
        {
            "id": 3,
            "image_id": 7,
            "category_id": 5,
            "area": 16,
            "iscrowd": 1,
            "segmentation": runs,
        },
        {"id": 4, "image_id": 8, "category_id": 9, "area": 4, "segmentation": [square(0, 0, 2)]},
    ]
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 20, "width": 30},
            {"id": 8, "file_name": "b.jpg", "height": 20, "width": 30},
        ],
        "categories": [{"id": 9, "name": "sofa"}, {"id": 5, "name": "cat"}],
        "annotations": shapes,
    }
    (folder / "train.json").write_text(json.dumps(content))
    return folder / "train.json"


def labelme(folder: Path, shapes: list[dict[str, object]]) -> Path:
    save_image(folder / "c.png", 20, 30, seed=3)
    content = {
        "version": "5.5.0",
        "shapes": shapes,
        "imagePath": "c.png",
        "imageData": None,
        "imageHeight": 20,
        "imageWidth": 30,
    }
    (folder / "c.json").write_text(json.dumps(content))
    return folder


SHAPES: list[dict[str, object]] = [
    {"label": "sofa", "points": [[2, 2], [12, 12]], "shape_type": "rectangle"},
    {"label": "cat", "points": [[4, 4], [7, 4], [7, 7], [4, 7]], "shape_type": "polygon"},
    {"label": "cat", "points": [[22, 10], [22, 14]], "shape_type": "circle"},
    {"label": "__ignore__", "points": [[0, 16], [4, 20]], "shape_type": "rectangle"},
]


def test_polygons_become_one_folder_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    monkeypatch.chdir(tmp_path)
    annotations, labelled = coco(tmp_path), labelme(tmp_path / "labelled", SHAPES)
    for words in (
        ("coco", f"annotations={annotations}", "images=photos", "output=mine", "split=train"),
        ("labelme", f"annotations={labelled}", "output=mine", "split=val"),
        ("labelme", f"annotations={labelled}", "output=mine", "split=val"),  # again
    ):
        status, _, complaint = command("data", "convert", *words)
        assert status == 0, complaint
    assert Path("mine/classes.txt").read_text() == "background\ncat\nsofa\n"
    train, val = (read_folder("mine", split, "mine/classes.txt") for split in ("train", "val"))
    expected = np.zeros((20, 30), np.uint8)
    expected[2:12, 2:12], expected[4:7, 4:7] = 2, 1
    crowd = expected.copy()
    crowd[16:, 29] = 255  # run lengths go down the columns
    assert (train.mask(0) == crowd).all()
    mask = val.mask(0)
    assert (mask[:14, :14] == expected[:14, :14]).all()
    assert (mask[16:, :4] == 255).all()
    rows, columns = np.mgrid[:20, :30]
    disc = (rows + 0.5 - 10) ** 2 + (columns + 0.5 - 22) ** 2
    assert (mask[disc < 3.3**2] == 1).all()
    assert not mask[(disc > 4.8**2) & (columns > 14)].any()
    assert np.array_equal(np.asarray(Image.open("mine/train/images/a.jpg")), np.asarray(Image.open("photos/a.jpg")))


def test_shapes_that_cover_nothing_are_pointed_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    outside: dict[str, object] = {"label": "cat", "points": [[40, 40], [50, 40], [50, 50]], "shape_type": "polygon"}
    folder = labelme(tmp_path / "one", [*SHAPES, outside, outside | {"label": "sofa"}])
    convert("labelme", str(folder), None, str(tmp_path / "mine"), "train", "background")
    said = capfd.readouterr().err
    assert f"Note: 2 shapes of {folder} without a pixel, e.g. 'cat' of c.png: outside of the image" in said
    convert("labelme", str(labelme(tmp_path / "two", SHAPES)), None, str(tmp_path / "other"), "train", "background")
    assert "Note" not in capfd.readouterr().err


def test_labels_become_a_list_that_is_read_as_it_was_written(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    blank = labelme(tmp_path / "one", [SHAPES[0] | {"label": " sofa"}, *SHAPES])
    convert("labelme", str(blank), None, str(tmp_path / "mine"), "train", "background")
    assert (tmp_path / "mine" / "classes.txt").read_text() == "background\ncat\nsofa\n"
    convert("labelme", str(blank), None, str(tmp_path / "mine"), "val", "background")
    numbered = labelme(tmp_path / "two", [SHAPES[0] | {"label": "sign, 30"}, *SHAPES])
    with pytest.raises(DataError, match="has columns, such as 'sign, 30'"):
        convert("labelme", str(numbered), None, str(tmp_path / "other"), "train", "background")
    assert not (tmp_path / "other").exists()


def test_another_split_that_is_converted_at_the_same_time_has_the_same_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each paints for minutes; the list that the first wrote counts for both, or the other ends."""
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    one, other = labelme(tmp_path / "one", SHAPES), labelme(tmp_path / "other", SHAPES[1:])  # without a sofa
    begin, output = converting._begin, tmp_path / "mine"

    def late(listed: Path, names: Sequence[str]) -> bool:
        monkeypatch.setattr(converting, "_begin", begin)
        convert("labelme", str(one), None, str(output), "train", "background")
        return begin(listed, names)

    monkeypatch.setattr(converting, "_begin", late)
    with pytest.raises(DataError, match="written meanwhile, with other classes"):
        convert("labelme", str(other), None, str(output), "val", "background")
    assert {path.name for path in output.iterdir()} == {"train", "classes.txt"}
    convert("labelme", str(other), None, str(output), "val", "background")
    assert (output / "classes.txt").read_text() == "background\ncat\nsofa\n"


def test_images_of_another_split_are_not_replaced(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    one, other = labelme(tmp_path / "one", SHAPES), labelme(tmp_path / "other", SHAPES)
    convert("labelme", str(one), None, str(tmp_path / "mine"), "train", "background")
    convert("labelme", str(one), None, str(tmp_path / "mine"), "train", "background")  # annotated anew
    for path in [*other.iterdir()]:
        path.rename(path.with_stem("b"))
    annotation = other / "b.json"
    annotation.write_text(annotation.read_text().replace("c.png", "b.png"))
    with pytest.raises(DataError, match=r"train holds 1 image that .*other does not annotate, e\.g\. c\.png.*split=train"):
        convert("labelme", str(other), None, str(tmp_path / "mine"), "train", "background")


def test_folders_further_down_are_read_and_what_is_no_annotation_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    labelme(tmp_path / "labelled" / "deep" / "er", [SHAPES[0], {**SHAPES[1], "label": 7}])
    for name in (".vscode/settings.json", "deep/.ipynb_checkpoints/c.json", "deep/other.json"):
        path = tmp_path / "labelled" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"colour": 1}')
    convert("labelme", str(tmp_path / "labelled"), None, str(tmp_path / "mine"), "train", "background")
    assert (tmp_path / "mine" / "classes.txt").read_text() == "background\n7\nsofa\n"
    assert [path.name for path in (tmp_path / "mine" / "train" / "images").iterdir()] == ["c.png"]
    noted = capsys.readouterr().err
    assert "left out, being no annotations of labelme" in noted
    assert "deep/other.json" in noted
    assert ".vscode" not in noted
    (tmp_path / "labelled" / "deep" / "cut.json").write_text('{"shapes": [')
    with pytest.raises(DataError, match=r"cut\.json is no JSON file"):
        convert("labelme", str(tmp_path / "labelled"), None, str(tmp_path / "mine"), "train", "background")


@pytest.mark.parametrize(("mode", "saved"), [("P", "x.tif"), ("RGB", "turned.tif"), ("I;16", "deep.png")])
def test_images_of_any_bits_are_converted(tmp_path: Path, mode: str, saved: str) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    image = Image.fromarray(np.zeros((9, 9), np.uint16)) if mode == "I;16" else Image.new(mode, (9, 9))
    image.save(tmp_path / saved, **({"tiffinfo": {274: 6}} if saved == "turned.tif" else {}))
    (tmp_path / "train.json").write_text(json.dumps(coco_of(saved, [2, 2, 7, 2, 7, 7, 2, 7])))
    convert("coco", str(tmp_path / "train.json"), None, str(tmp_path / "mine"), "train", "background")
    assert (tmp_path / "mine" / "train" / "images" / saved).is_file()


@pytest.mark.parametrize("areas", [(None, None), (0, 0), (1, 400)])
def test_the_smaller_is_painted_later_whatever_the_file_says_of_areas(
    tmp_path: Path, areas: tuple[int | None, int | None]
) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    content = coco_of("a.png", [2, 2, 7, 2, 7, 7, 2, 7])
    table = content["annotations"][0] | {"category_id": 2, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}
    content["categories"].append({"id": 2, "name": "table"})
    content["annotations"].append(table)
    for shape, area in zip(content["annotations"], reversed(areas), strict=True):
        shape.update({} if area is None else {"area": area})
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "train.json").write_text(json.dumps(content))
    convert("coco", str(tmp_path / "train.json"), None, str(tmp_path / "mine"), "train", "background")
    painted = np.asarray(Image.open(tmp_path / "mine" / "train" / "labels" / "a.png"))
    assert np.bincount(painted.ravel()).tolist() == [0, 25, 56]


def twice(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"images": 2 * content["images"]}


def coco_of(name: str, corners: object, side: int = 9, id: object = 1) -> dict[str, Any]:
    """One image with one polygon, or one run-length encoding."""
    counts = [*corners] if isinstance(corners, tuple) else corners
    segmentation = [corners] if isinstance(corners, list) else {"size": [9, 9], "counts": counts}
    shape = {"image_id": 1, "category_id": 1, "segmentation": segmentation}
    image = {"id": id, "file_name": name, "height": side, "width": side}
    return {"images": [image], "categories": [{"id": 1, "name": "cat"}], "annotations": [shape]}


@pytest.mark.parametrize(
    ("format", "spoil", "says"),
    [
        ("coco", {}, "no annotation file in COCO's format"),
        ("coco", "no json", "is no JSON file"),
        ("coco", {"images": [], "categories": [], "annotations": [5]}, "no annotation file in COCO's format"),
        (
            "coco",
            {"images": [{"id": 1, "file_name": "gone.jpg", "height": 2, "width": 2}], "categories": [], "annotations": []},
            "gone.jpg",
        ),
        ("labelme", [{"label": "cat", "points": [[1, 1]], "shape_type": "point"}], "only polygons, rectangles and circles"),
        ("labelme", [{"points": []}], "no annotation of labelme"),
        ("labelme", [{"label": None, "points": [[1, 1], [8, 8], [1, 8]]}], "no annotation of labelme"),
        ("labelme", [], "class"),
        ("labelme", [{"label": "cat", "points": [[1, 1], [8, 8]], "shape_type": "polygon"}], "a polygon of 2 points"),
        ("coco", coco_of("photos/a.jpg", []), "'cat' without a polygon"),
        ("voc", {}, "format=voc: expected coco or labelme"),
        ("coco", "[" * 100_000, "is no JSON file"),
        ("coco", coco_of("../../photos/a.jpg", [1, 1, 8, 1, 8, 8]), "leaves the images' folder"),
        ("coco", coco_of("photos/a.jpg", [1, 1, 8, 1, 8]), "no list of x, y"),
        ("coco", coco_of("photos/a.jpg", [1, 1, 8, 1, float("nan"), 8]), "no list of x, y"),
        ("coco", coco_of("photos/a.jpg", [1, 1, 8, 1, 8, 8], side=10), "9x9 pixels, and its annotations 10x10"),
        ("coco", coco_of("photos/a.jpg", (40, 30)), "runs of 70 pixels in an image of 81"),
        ("coco", coco_of("photos/a.jpg", "12"), "does not fill the image"),
        ("coco", coco_of("photos/a.jpg", "garbage"), "cannot be drawn"),
        (
            "coco",
            coco_of("photos/a.jpg", [1, 1, 8, 1, 8, 8], id="1"),
            r"annotates image 1 \(1 such\), which its images do not list",
        ),
        ("coco", twice(coco_of("photos/a.jpg", [1, 1, 8, 1, 8, 8])), "two images of one id"),
    ],
)
def test_annotations_that_cannot_be_converted_are_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, format: str, spoil: object, says: str
) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is absent")
    monkeypatch.chdir(tmp_path)
    if isinstance(spoil, list):
        source = labelme(tmp_path / "labelled", spoil)
    else:
        source = tmp_path / "train.json"
        source.write_text(spoil if isinstance(spoil, str) else json.dumps(spoil))
        Path("photos").mkdir()
        Image.new("RGB", (9, 9)).save("photos/a.jpg")
    status, _, complaint = command("data", "convert", format, f"annotations={source}", "output=mine", "split=train")
    assert status == 1
    assert re.search(says, complaint)
    assert len(complaint.splitlines()) == 1
    assert not Path("mine").exists()
