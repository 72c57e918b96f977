import inspect
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.data.scenes import generate_scenes
from exfuse.data.scenes_canvas import Canvas
from exfuse.data.scenes_drawing import Placed, Scene, compose_scene, draw_scene
from exfuse.data.scenes_objects import CLASSES, KINDS, draw_ball, draw_hull, draw_winged
from exfuse.data.scenes_surroundings import LAND, SKY, WATER
from exfuse.errors import DataError
from exfuse.palette import VOID, voc_palette
from tests.pace import patience

LOOK_ALIKES = {("boat", "cart"): draw_hull, ("bird", "fish"): draw_winged, ("balloon", "buoy"): draw_ball}
HOMES = {"boat": WATER, "cart": LAND, "bird": SKY, "fish": WATER, "balloon": SKY, "buoy": WATER}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose_scene(3, "train", index, 176) for index in range(60)]


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def on_image(one: Placed, field: np.ndarray, background: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the box of ``one`` from ``field``, ``background`` beyond the image, and say where in it ``one`` is solid."""
    rows, columns = one.sprite.coverage.shape
    pad = max(rows, columns)
    padded = np.pad(field, pad, constant_values=background)
    top, left = one.top + pad, one.left + pad
    return padded[top : top + rows, left : left + columns], one.sprite.coverage >= 0.5


def test_a_scene_depends_on_its_arguments_alone():
    image, ids = draw_scene(0, "train", 4, 128)
    np.random.default_rng().random(3)
    draw_scene(0, "train", 3, 128)
    again, ids_again = draw_scene(0, "train", 4, 128)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(ids, ids_again)


def test_seed_split_and_index_each_draw_another_scene():
    names = [(seed, split, index) for seed in (0, 1) for split in ("train", "val") for index in range(20)]
    assert len({draw_scene(*name, 64)[0].tobytes() for name in names}) == len(names)


def test_scenes_are_landscape_or_portrait_and_as_long_as_asked(scenes):
    assert {scene.image.dtype for scene in scenes} == {scene.ids.dtype for scene in scenes} == {np.dtype(np.uint8)}
    assert all(scene.image.shape == (*scene.ids.shape, 3) for scene in scenes)
    assert all(max(scene.ids.shape) == 176 and min(scene.ids.shape) >= 132 for scene in scenes)
    tall = sum(scene.ids.shape[0] > scene.ids.shape[1] for scene in scenes)
    assert 10 < tall < 50


def test_a_size_too_small_to_label_is_refused():
    with pytest.raises(ValueError, match="at least 64 pixels, got 63"):
        draw_scene(0, "train", 0, 63)


def test_every_class_occurs_in_many_scenes_and_nothing_else_does(scenes):
    occurrences = Counter(label for scene in scenes for label in np.unique(scene.ids).tolist())
    assert set(occurrences) == {*range(len(CLASSES)), VOID}
    assert min(occurrences.values()) >= 15


def test_objects_of_a_class_vary_in_size_by_more_than_three(scenes):
    for label in range(1, len(CLASSES)):
        lengths = [max(one.sprite.coverage.shape) for scene in scenes for one in scene.objects if one.class_id == label]
        assert max(lengths) > 2.5 * min(lengths), CLASSES[label]
    for kind in KINDS:
        rng = np.random.default_rng(0)
        lengths = [max(kind.draw(rng, 176).coverage.shape) for _ in range(200)]
        assert max(lengths) > 3 * min(lengths), kind


def test_a_void_band_parts_every_object_from_its_background_and_is_thin(scenes):
    for scene in scenes:
        ids = scene.ids.astype(int)
        for one, other in ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])):
            labelled = (one != VOID) & (other != VOID)
            touching = labelled & (one != other)
            assert not touching.any()
    void = np.mean([np.mean(scene.ids == VOID) for scene in scenes])
    assert 0.02 < void < 0.1


def test_masks_name_the_nearest_object_and_are_void_only_at_edges(scenes):
    for scene in scenes:
        height, width = scene.ids.shape
        nearest, labels = np.zeros((2, height, width), dtype=int)  # by painting whole objects over each other
        for number, one in enumerate(scene.objects, start=1):
            rows, columns = np.nonzero(one.sprite.coverage >= 0.5)
            rows, columns = rows + one.top, columns + one.left
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            nearest[rows[inside], columns[inside]] = number
            labels[rows[inside], columns[inside]] = one.class_id
        known = scene.ids != VOID
        np.testing.assert_array_equal(scene.ids[known], labels[known])
        around = np.lib.stride_tricks.sliding_window_view(np.pad(nearest, 2, mode="edge"), (5, 5))
        assert (around != nearest[..., None, None]).any((2, 3))[~known].all()


def test_objects_hide_parts_of_each_other(scenes):
    cut = 0
    for scene in scenes:
        for one in scene.objects:
            labels, solid = on_image(one, scene.ids, one.class_id)
            visible = np.mean(labels[solid] == one.class_id)
            cut += visible < 0.9
    assert cut > 30


def test_look_alikes_are_drawn_by_one_function_that_is_not_told_the_class():
    for names, draw in LOOK_ALIKES.items():
        (kind,) = [kind for kind in KINDS if set(names) <= set(kind.names.values())]
        assert kind.draw is draw
        assert kind.names == {HOMES[name]: name for name in names}
        assert list(inspect.signature(draw).parameters) == ["rng", "size"]


def test_only_the_region_around_look_alikes_tells_them_apart(scenes):
    seen = set()
    for scene in scenes:
        for one in scene.objects:
            name = CLASSES[one.class_id]
            if name in HOMES:
                regions, _ = on_image(one, scene.regions, HOMES[name])
                base = regions[-max(1, int(one.kind.footprint * len(regions))) :]
                assert (base == HOMES[name]).all(), name
                seen.add(name)
    assert seen == set(HOMES)


def test_look_alikes_have_the_same_sizes_and_colours(scenes):
    """Means of both classes agree within sampling error: four standard errors of their difference."""
    objects = [one for index in range(250) for one in compose_scene(7, "train", index, 96).objects]
    for names in LOOK_ALIKES:
        groups = []
        for name in names:
            sprites = [one.sprite for one in objects if CLASSES[one.class_id] == name]
            colours = [sprite.colour.sum((0, 1)) / sprite.coverage.sum() for sprite in sprites]
            groups.append(
                np.column_stack([colours, [sprite.coverage.shape[1] / sprite.coverage.shape[0] for sprite in sprites]])
            )
        first, second = groups
        error = np.sqrt(first.var(0) / len(first) + second.var(0) / len(second))
        assert (np.abs(first.mean(0) - second.mean(0)) < 4 * error).all(), names


def test_thin_structures_keep_labelled_pixels_and_stay_thin(scenes):
    kept = []
    for scene in scenes:
        for one in (one for one in scene.objects if one.sprite.thin):
            labels, solid = on_image(one, scene.ids, VOID)
            seen = solid & on_image(one, np.ones(scene.ids.shape, bool), False)[0]
            kept.append(np.mean(labels[seen] == one.class_id))
            edges = np.flatnonzero(np.diff(np.pad(solid, ((0, 0), (1, 1))).ravel().astype(int)))
            assert np.median(edges[1::2] - edges[::2]) <= 3  # runs along the rows
    assert min(kept) > 0.1  # what is left of those that nearer objects and their bands hide
    assert np.mean(kept) > 0.85


def test_canvas_covers_pixels_by_their_share():
    canvas = Canvas(8, 8)
    canvas.box(2, 2, 5.5, 4, np.array([200.0, 100.0, 0.0]))
    sprite = canvas.sprite(lambda rows, columns: np.ones((rows, columns), np.float32))
    coverage = sprite.coverage.sum()
    assert coverage == pytest.approx(3.5 * 2, rel=0.25)  # fillPoly includes the outline of the enlarged polygon
    np.testing.assert_allclose(sprite.colour[..., 0] / 200, sprite.coverage, atol=0.01)


def test_files_are_a_voc_devkit(tmp_path):
    root = generate_scenes(tmp_path / "scenes", train=3, val=2, size=64, seed=1)
    assert root == tmp_path / "scenes"
    listed = {}
    for split, count in (("train", 3), ("val", 2)):
        listed[split] = (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        assert len(listed[split]) == count
        for index, name in enumerate(listed[split]):
            image, ids = draw_scene(1, split, index, 64)
            mask = Image.open(root / "SegmentationClass" / f"{name}.png")
            assert mask.mode == "P"
            assert bytes(mask.getpalette()) == voc_palette().tobytes()
            np.testing.assert_array_equal(np.asarray(mask), ids)
            photo = Image.open(root / "JPEGImages" / f"{name}.jpg")
            assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", mask.size)
            assert np.abs(np.asarray(photo).astype(int) - image).mean() < 10
    assert not set(listed["train"]) & set(listed["val"])
    assert len(files_of(root)) == 5 + 5 + 2 + 1
    assert json.loads((root / "scenes.json").read_text()) == {"version": 1, "train": 3, "val": 2, "size": 64, "seed": 1}


def test_files_do_not_depend_on_how_many_are_asked_for(tmp_path):
    few = files_of(generate_scenes(tmp_path / "few", 2, 1, 64, 0))
    many = files_of(generate_scenes(tmp_path / "many", 4, 3, 64, 0))
    pictures = {name for name in few if name.endswith((".jpg", ".png"))}
    assert len(pictures) == 6
    assert all(few[name] == many[name] for name in pictures)


def test_the_same_data_set_is_kept(tmp_path):
    root = generate_scenes(tmp_path / "scenes", 2, 1, 64, 0)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert generate_scenes(root, 2, 1, 64, 0) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times


@pytest.mark.parametrize("change", [{"train": 3}, {"val": 2}, {"size": 65}, {"seed": 1}])
def test_other_parameters_have_a_folder_of_their_own_and_change_nothing(tmp_path, change):
    asked = {"train": 2, "val": 1, "size": 64, "seed": 0}
    root = generate_scenes(tmp_path / "scenes", **asked)
    before = files_of(root)
    other = generate_scenes(root, **asked | change)
    assert other.parent == root.parent != other
    assert files_of(other) == files_of(generate_scenes(tmp_path / "alone", **asked | change))
    assert generate_scenes(root, **asked | change) == other
    assert files_of(root) == before
    assert generate_scenes(root, **asked) == root


def test_scenes_of_another_version_have_their_own_folder_and_foreign_ones_are_refused(tmp_path, monkeypatch):
    root = generate_scenes(tmp_path / "scenes", 1, 1, 64, 0)
    monkeypatch.setattr("exfuse.data.scenes.VERSION", 2)
    assert generate_scenes(root, 1, 1, 64, 0) != root
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "precious.txt").write_text("mine")
    with pytest.raises(DataError, match="foreign holds something other than scenes"):
        generate_scenes(tmp_path / "foreign", 1, 1, 64, 0)
    assert (tmp_path / "foreign" / "precious.txt").read_text() == "mine"


def test_an_interrupted_generation_leaves_nothing_and_the_next_one_completes(tmp_path, monkeypatch):
    def interrupted(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        if index == 1:
            raise KeyboardInterrupt
        return draw_scene(seed, split, index, size)

    root = tmp_path / "scenes"
    monkeypatch.setattr("exfuse.data.scenes.draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_scenes(root, 2, 1, 64, 0)
    monkeypatch.undo()
    assert not root.exists()
    (tmp_path / ".scenes.part-killed" / "JPEGImages").mkdir(parents=True)  # what a killed process would leave
    generate_scenes(root, 2, 1, 64, 0)
    assert len(files_of(root)) == 3 + 3 + 2 + 1
    assert not (tmp_path / ".scenes.part-killed").exists()


def test_two_processes_at_once_leave_one_complete_data_set(tmp_path):
    root = tmp_path / "both"
    script = (
        "import sys; from pathlib import Path; from exfuse.data.scenes import generate_scenes;"
        "generate_scenes(Path(sys.argv[1]), 30, 5, 96, 0)"
    )
    here = Path(__file__).parents[2]
    writers = [subprocess.Popen([sys.executable, "-c", script, str(root)], cwd=here) for _ in range(2)]
    assert [writer.wait(patience(120)) for writer in writers] == [0, 0]
    assert files_of(root) == files_of(generate_scenes(tmp_path / "alone", 30, 5, 96, 0))
