"""python -m src.evaluate under every protocol, and its scores against the devkit's measure on the masks that a model writes."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from exfuse import files
from exfuse.composition.reading import read_split
from exfuse.errors import UserError
from exfuse.files import sha256
from exfuse.metrics.iou import Areas
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.evaluation import _say_what_is_read_otherwise, evaluate, rescore
from exfuse.runs.prediction import predict
from exfuse.store.description import Option, RunDescription, from_plain
from exfuse.store.folder import RunFolder
from exfuse.store.record import BoundaryScores
from exfuse.store.seal import write_sealed
from tests.described import arguments_of
from tests.metrics.devkit import devkit_accuracies


def evaluation(run: RunFolder, *overrides: str) -> dict[str, Any]:
    return arguments_of("evaluate", f"checkpoint={run.path}", "device=cpu", "workers=0", *overrides)


@pytest.fixture(scope="module")
def varied_run(finished_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run with weights so disturbed that it predicts many classes, where two epochs teach it little but background."""
    copy = RunFolder(tmp_path_factory.mktemp("varied"), finished_run.key)
    shutil.copytree(finished_run.path, copy.path)
    content = torch.load(copy.last, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name, value in content["state_dict"].items():
        if name.startswith("model.decoder.") and value.is_floating_point():
            value += 0.5 * torch.randn(value.shape, generator=generator)
    write_sealed(copy.last, lambda file: torch.save(content, file))
    record = copy.record()
    assert record is not None
    copy.write(replace(record, checkpoint_sha256=sha256(copy.last)))
    return copy


def test_scores_of_other_images_settings_or_weights_are_kept_beside_the_first(varied_run: RunFolder) -> None:
    scales = ["protocol=multi_scale", "protocol.scales=[1.0]"]
    for words in (scales, scales, [scales[0], "protocol.scales=[0.5]"], ["split=train", *scales]):
        evaluate(**evaluation(varied_run, *words))
    found = sorted(varied_run.path.glob("evaluation/*/multi_scale*/scores.json"))
    assert len(found) == 3
    before = {path: path.stat().st_mtime_ns for path in found}
    evaluate(**evaluation(varied_run, *scales) | {"checkpoint": str(varied_run.last)})  # the same weights by another name
    assert len([*varied_run.path.glob("evaluation/*/multi_scale*/scores.json")]) == 3
    assert sum(path.stat().st_mtime_ns != at for path, at in before.items()) == 1
    assert {tuple(json.loads(path.read_text())["protocol"]["scales"]) for path in found} == {(1.0,), (0.5,)}
    shutil.rmtree(varied_run.path / "evaluation")


def test_weights_of_the_same_file_name_are_told_apart_and_a_bare_name_finds_its_run(
    varied_run: RunFolder, finished_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, run in (("a", varied_run), ("b", finished_run)):
        place = tmp_path / name / "last.ckpt"
        place.parent.mkdir()
        shutil.copy(run.last, place)
        evaluate(**evaluation(run) | {"checkpoint": str(place)})
    monkeypatch.chdir(tmp_path / "a")
    evaluate(**evaluation(varied_run) | {"checkpoint": "last.ckpt"})
    found = {tuple(path.relative_to(tmp_path).parts[:2]) for path in tmp_path.glob("**/scores.json")}
    assert found == {("a", "evaluation"), ("b", "evaluation")}
    assert len([*tmp_path.glob("**/scores.json")]) == 2
    inside = varied_run.last.parent / "sub"
    assert RunFolder.of(inside / ".." / "last.ckpt").path == RunFolder.of(varied_run.path).path == varied_run.path


def test_scores_equal_the_devkit_on_the_masks_that_predict_writes(varied_run: RunFolder, tmp_path: Path) -> None:
    evaluate(**evaluation(varied_run, f"output={tmp_path}"))
    scores = json.loads((tmp_path / "scores.json").read_text())
    record = varied_run.record()
    assert record is not None
    split = read_split(from_plain(record.config, RunDescription).data, "val")
    predict(varied_run.path, [item.image for item in split.items], tmp_path / "masks", "cpu")
    pairs = [
        (np.array(Image.open(tmp_path / "masks" / f"{item.image.stem}.png")), np.array(Image.open(item.mask)))
        for item in split.items
    ]
    expected = devkit_accuracies(pairs, len(split.classes))
    present = [name for name, value in scores["iou"].items() if value is not None]
    ours = {name: 100 * value for name, value in scores["iou"].items() if value is not None}
    theirs = dict(zip(split.classes, expected, strict=True))
    assert len(present) > 3
    assert len(np.unique(np.concatenate([mask.ravel() for mask, _ in pairs]))) > 3
    assert all(abs(ours[name] - theirs[name]) < 1e-9 for name in present)
    assert abs(100 * scores["miou"] - np.mean([theirs[name] for name in present])) < 1e-9


@pytest.mark.parametrize(
    "overrides",
    [("protocol=multi_scale", "protocol.scales=[0.75,1.25]"), ("protocol=multi_scale_flip",), ("protocol=sliding",)],
)
def test_every_protocol_scores_the_same_pixels(overrides, varied_run: RunFolder, tmp_path: Path) -> None:
    window = ["protocol.windows.window=40"] if "sliding" in overrides[0] else []  # of images of 64 px
    config = evaluation(varied_run, f"output={tmp_path}", *overrides, *window)
    evaluate(**config)
    scores = json.loads((tmp_path / "scores.json").read_text())
    evaluate(**evaluation(varied_run, f"output={tmp_path}/single"))
    single = json.loads((tmp_path / "single" / "scores.json").read_text())
    assert scores["protocol"]["name"] == config["protocol"].name
    assert np.sum(scores["confusion"], 1).tolist() == np.sum(single["confusion"], 1).tolist()
    assert scores["confusion"] != single["confusion"]
    assert (tmp_path / "predictions.png").stat().st_size > 0


def test_scores_of_several_protocols_lie_beside_each_other(
    finished_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = RunFolder(tmp_path, finished_run.key)
    shutil.copytree(finished_run.path, copy.path)
    for protocol in ("single_scale", "sliding"):
        evaluate(**evaluation(copy, f"protocol={protocol}"))
    written = sorted(path.parent.name for path in copy.path.glob("evaluation/*/*/scores.json"))
    assert written == ["single_scale", "sliding"]
    assert "boundary: boundary IoU." in " ".join(capsys.readouterr().out.split())


def test_what_a_protocol_of_ones_own_was_stands_beside_its_scores(
    finished_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol" / "mine.yaml").write_text("# Mine.\n_target_: my_protocol.decide\n_partial_: true\n")
    code = tmp_path / "my_protocol.py"
    code.write_text("from exfuse.tasks.segmentation import predict_ids as decide\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    files.set_config_dirs([tmp_path])
    try:
        evaluate(**evaluation(finished_run, "protocol=mine", f"output={tmp_path / 'scores'}"))
        told = json.loads((tmp_path / "scores" / "scores.json").read_text())["code"]
        assert told["my_protocol"] == sha256(code)
        assert "protocol=mine" in told
        code.write_text(code.read_text() + "# another\n")
        with pytest.raises(UserError, match="Choose another place"):
            evaluate(**evaluation(finished_run, "protocol=mine", f"output={tmp_path / 'scores'}"))
    finally:
        files.set_config_dirs([])


def test_a_run_keeps_its_areas_near_borders_and_its_record_their_sums(finished_run: RunFolder) -> None:
    record = finished_run.record()
    assert record is not None
    areas = finished_run.boundary_areas(record)
    assert areas is not None
    assert record.scores.boundary == BoundaryScores(**areas.summary())
    counts, _ = finished_run.counts(record)
    for area, whole in zip(areas.areas, Areas.of_counts(counts), strict=True):
        np.testing.assert_array_equal(area[:, :-1].sum(1), whole)
    with (finished_run.path / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    edge = areas.band(5).total().iou()
    assert [row["edge_iou_5px"] for row in rows] == ["absent" if np.isnan(value) else f"{value:.6f}" for value in edge]


def test_a_run_scored_again_keeps_its_training_and_gets_its_scores_back(finished_run, tmp_path, commit, capsys):
    copy = RunFolder(tmp_path, finished_run.key)
    shutil.copytree(finished_run.path, copy.path)
    before = copy.finished()
    counts, ids = copy.counts()
    (copy.path / "boundary.npz").write_bytes(b"of another measure")
    rescore([str(tmp_path)], "cpu", workers=0)
    after = copy.finished()
    assert after.scored_by.commit == commit
    compressed = {name: getattr(after, name) for name in ("boundary_sha256", "confusion_sha256")}  # may differ
    assert after == replace(before, scored_by=after.scored_by, **compressed)
    np.testing.assert_array_equal(copy.counts()[0], counts)
    assert copy.counts()[1] == ids
    np.testing.assert_array_equal(copy.boundary_areas(after).areas.true, finished_run.boundary_areas(before).areas.true)
    (copy.path / "confusion.npz").write_bytes(b"half of it")
    rescore([str(tmp_path)], "cpu", workers=0)
    assert "could not be read" in " ".join(capsys.readouterr().out.split())
    np.testing.assert_array_equal(copy.counts()[0], counts)
    with pytest.raises(UserError, match="holds no finished run"):
        rescore([str(tmp_path / "nowhere")], "cpu", workers=0)


def test_it_is_said_where_the_runs_own_data_have_changed(
    varied_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = varied_run.record()
    assert record is not None
    evaluate(**evaluation(varied_run, f"output={tmp_path / 'same'}"))
    assert "have changed since" not in capsys.readouterr().err
    copy = RunFolder(tmp_path / "runs", varied_run.key)
    shutil.copytree(varied_run.path, copy.path)
    copy.write(replace(record, manifests=record.manifests | {"val": "0" * 64}))
    evaluate(**evaluation(copy, f"output={tmp_path / 'other'}"))
    assert f"is not what run {copy.key} was scored on: images or masks have changed since" in capsys.readouterr().err


def test_it_is_said_where_values_mean_something_else_than_in_training(
    varied_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    _, trained, _ = load_checkpoint(varied_run.path)
    _say_what_is_read_otherwise(trained, trained.data)
    assert not capsys.readouterr().err
    _say_what_is_read_otherwise(trained, Option("folder", {"range": [0, 4000]}))
    assert "data.range=[0,4000], and the model was trained with null" in capsys.readouterr().err
