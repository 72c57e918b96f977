"""What can be done with a finished run: score it again, label photographs, compare it with others."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from exfuse.composition import reading
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.scenes_objects import CLASSES
from exfuse.data.split import Split
from exfuse.errors import CheckpointError, ConfigError, DataError, UserError
from exfuse.files import outputs, write_atomically
from exfuse.palette import class_palette
from exfuse.runs.asked import masks_made_of
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.comparison import compare
from exfuse.runs.evaluation import evaluate
from exfuse.runs.prediction import predict
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from exfuse.store.seal import write_sealed
from exfuse.tasks.segmentation import predict_ids
from tests.described import arguments_of


def evaluation(checkpoint: Path, output: Path, *overrides: str) -> dict[str, Any]:
    common = (f"checkpoint={checkpoint}", f"output={output}", "device=cpu", "workers=0")
    return arguments_of("evaluate", *common, *overrides)


@pytest.mark.parametrize("as_folder", [True, False])
def test_evaluating_a_run_gives_its_own_scores_again(finished_run: RunFolder, tmp_path: Path, as_folder: bool) -> None:
    evaluate(**evaluation(finished_run.path if as_folder else finished_run.last, tmp_path))
    record = finished_run.record()
    assert record is not None
    again = json.loads((tmp_path / "scores.json").read_text())
    assert again["confusion"] == record.scores.confusion
    assert again["manifest"] == record.manifests["val"]
    assert (tmp_path / "predictions.png").stat().st_size > 0
    counts = np.load(tmp_path / "confusion.npz")["counts"]
    assert counts.sum(0).tolist() == record.scores.confusion


def test_a_checkpoint_is_not_scored_on_data_with_other_classes(finished_run: RunFolder, tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / "val" / part).mkdir(parents=True)
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "val" / part / "a.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    config = evaluation(finished_run.path, tmp_path / "out", "data=folder", f"data.root={tmp_path}")
    with pytest.raises(CheckpointError, match="11 classes"):
        evaluate(**config)
    assert not (tmp_path / "out").exists()


def test_evaluate_wants_a_checkpoint_and_a_known_split(finished_run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="checkpoint is not set"):
        arguments_of("evaluate")
    with pytest.raises(ConfigError, match="expected train or val"):
        evaluation(finished_run.path, tmp_path, "split=test")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA GPU"):
            evaluate(**evaluation(finished_run.path, tmp_path, "device=cuda"))


def test_photographs_get_palette_masks_of_their_own_size(finished_run: RunFolder, tmp_path: Path) -> None:
    from skimage import data

    photo = data.chelsea()  # freely licensed, in the package itself
    Image.fromarray(photo).save(tmp_path / "cat.jpg")
    predict(str(finished_run.path), [str(tmp_path / "cat.jpg")], str(tmp_path / "out"), "cpu")
    mask = Image.open(tmp_path / "out" / "cat.png")
    assert mask.mode == "P"
    assert np.asarray(mask).shape == photo.shape[:2]
    assert int(np.asarray(mask).max()) < 11
    assert mask.getpalette()[:33] == class_palette(CLASSES)[:11].ravel().tolist()  # as in every picture
    assert (tmp_path / "out" / "cat_overlay.png").stat().st_size > 0
    model, config, _ = load_checkpoint(finished_run.path)  # unfused
    with torch.inference_mode():
        expected = predict_ids(model, build_eval_transform(config)(photo)[None], photo.shape[:2])[0]
    assert np.array_equal(np.asarray(mask), expected)


def test_a_photograph_is_turned_as_its_camera_says(
    finished_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(np.zeros((40, 64, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save("photo.jpg", exif=exif)
    predict(str(finished_run.path), ["photo.jpg"], None, "cpu")
    written = tmp_path / "outputs" / "predictions" / finished_run.key / "photo.png"  # each run's in a place of its own
    assert np.asarray(Image.open(written)).shape == (64, 40)


def test_checkpoints_of_one_name_are_told_apart(finished_run: RunFolder, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "w").mkdir(parents=True)
        (tmp_path / folder / "w" / "x.ckpt").touch()
    one, other, again = (masks_made_of(tmp_path / folder / "w" / "x.ckpt", [Path("photo.jpg")], tmp_path) for folder in "aba")
    assert one == again != other
    near = masks_made_of(finished_run.path, [tmp_path / "photo.jpg"], tmp_path / "masks")[0]
    assert near == f"../photo.jpg by run {finished_run.key}"  # wherever the project lies


def test_unusable_photographs_are_named(finished_run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        predict(str(finished_run.path), [str(tmp_path / "broken.jpg")], str(tmp_path / "out"), "cpu")
    with pytest.raises(DataError, match=r"missing\.jpg"):
        predict(str(finished_run.path), [str(tmp_path / "missing.jpg")], str(tmp_path / "out"), "cpu")


def test_no_output_takes_the_place_of_an_input_another_output_or_a_file_of_somebody_elses(tmp_path: Path) -> None:
    for name in ("a.png", "a_overlay.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"a photograph")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.jpg").write_bytes(b"another")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for images, output, said in (
        (["a.png"], ".", r"a\.png is an input"),
        (["a.png"], "deep/..", r"a\.png is an input"),
        (["a.png", "deep/a.jpg"], "out", "Two outputs would be written to .*a"),
        (["a.png", "a_overlay.png"], "out", r"Two outputs would be written to .*a_overlay\.png"),
        (["b.jpg"], "out", r"out/b\.png is there, not written by exfuse"),
    ):
        with pytest.raises(UserError, match=said):
            predict(str(tmp_path / "no run"), [str(tmp_path / image) for image in images], str(tmp_path / output), "cpu")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_was_written_may_be_written_again_and_what_somebody_changed_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.onnx"
    for _ in range(2):
        with outputs([path]):
            write_atomically(path, lambda scratch: scratch.write_text("a model"))
    path.write_text("changed")
    with pytest.raises(UserError, match="changed since"), outputs([path]):
        pass
    with pytest.raises(UserError, match="there"), outputs([tmp_path]):  # a folder
        pass


def test_work_that_fails_keeps_what_it_wrote_as_its_own_and_nothing_of_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    with contextlib.suppress(ZeroDivisionError), outputs([first, second]):
        write_atomically(first, lambda scratch: scratch.write_text("a mask"))
        second.write_text("put there meanwhile")
        raise ZeroDivisionError
    with outputs([first]):
        pass
    with pytest.raises(UserError, match=r"b\.png is there, not written by exfuse"), outputs([second]):
        pass
    write_atomically(second, lambda scratch: scratch.write_text("written where nobody asks"))
    with pytest.raises(UserError, match=r"b\.png is there"), outputs([second]):
        pass


def test_checkpoints_that_cannot_be_trusted_are_refused(finished_run: RunFolder, tmp_path: Path) -> None:
    whole = finished_run.last.read_bytes()
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt"):
        load_checkpoint(cut)
    foreign = tmp_path / "foreign.ckpt"
    write_sealed(foreign, lambda file: torch.save({"state_dict": {}}, file))
    with pytest.raises(CheckpointError, match="not written by this project"):
        load_checkpoint(foreign)
    with pytest.raises(CheckpointError, match="No checkpoint"):
        load_checkpoint(tmp_path / "missing.ckpt")


def test_a_checkpoint_of_another_architecture_is_refused_with_its_keys(finished_run: RunFolder, tmp_path: Path) -> None:
    content = torch.load(finished_run.last, weights_only=True)
    content["description"]["config"]["backbone"]["arguments"]["channels"] = [8, 16, 32, 64]
    write_sealed(tmp_path / "other.ckpt", lambda file: torch.save(content, file))
    with pytest.raises(CheckpointError, match=r"another architecture.*encoder\.backbone"):
        load_checkpoint(tmp_path / "other.ckpt")


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    write_sealed(tmp_path / "bomb.ckpt", lambda file: torch.save({"state_dict": {}, "description": Bomb()}, file))
    with pytest.raises(CheckpointError, match=r"bomb\.ckpt"):
        load_checkpoint(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_runs_are_compared_per_class_and_in_a_picture(
    finished_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare([str(finished_run.root)], str(tmp_path / "comparison.png"), images=2)
    text = capsys.readouterr().out
    record = finished_run.record()
    assert record is not None
    assert f"{100 * record.scores.miou:.1f}" in text
    assert "seb_ecre" in text
    assert np.asarray(Image.open(tmp_path / "comparison.png")).std() > 0
    with pytest.raises(UserError, match="No finished run"):
        compare([str(tmp_path)], str(tmp_path / "x.png"), images=2)


def test_no_comparison_shows_one_run_twice_or_other_images_or_replaces_a_file_of_the_users(
    finished_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "mine" / finished_run.key
    shutil.copytree(finished_run.path, copied)
    with pytest.raises(UserError, match=r"are the same run: seb_ecre, seed 0\. Name one of them"):
        compare([str(finished_run.path), str(copied)], str(tmp_path / "x.png"), images=1)
    own = tmp_path / "mine" / "comparison.png"
    own.write_text("years of work")
    with pytest.raises(UserError, match=r"comparison\.png"):
        compare([str(tmp_path / "mine")], None, images=1)
    assert own.read_text() == "years of work"
    compare([str(copied)], None, images=1)
    assert (copied / "comparison.png").is_file()
    read = reading.split_of

    def one_less(described: RunDescription, split: str) -> Split:
        there = read(described, split)
        return replace(there, items=there.items[:-1])

    monkeypatch.setattr(reading, "split_of", one_less)
    with pytest.raises(DataError, match="is not what this run was scored on"):
        compare([str(copied)], str(tmp_path / "x.png"), images=1)
    assert not (tmp_path / "x.png").exists()
