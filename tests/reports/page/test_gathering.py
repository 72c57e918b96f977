"""Examples and curves from real runs of a second, into a study's folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from exfuse.composition.reading import read_split
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.pixels import read_image, read_mask
from exfuse.data.subsets import spread_evenly
from exfuse.errors import UserError
from exfuse.files import sha256
from exfuse.palette import VOID
from exfuse.reports.page import predicting
from exfuse.reports.page.gathering import Wish, examples_folder, gather_examples, gather_histories
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.training import train
from exfuse.store.checked import write_sealed_json
from exfuse.store.description import Option, RunDescription
from exfuse.store.examples import Examples, bounded, load_examples, read_ids, write_ids
from exfuse.store.folder import RunFolder
from exfuse.store.history import read_history
from exfuse.store.outcome import DONE, Outcome
from exfuse.store.seal import write_sealed
from exfuse.store.study import Study
from exfuse.store.study_reading import load_study
from exfuse.sweeps.collect import collect_study
from exfuse.sweeps.declared import DeclaredStudy
from tests.analysis.synthetic import BASELINE
from tests.described import changed
from tests.small_runs import SMALL

CHOICES = {f"technique/{name}": option for name, option in BASELINE.items()} | {"decoder": "levels_2345"}
WISH = Wish(images=3, long_side=40, device="cpu")


@pytest.fixture(scope="module")
def store(compose_config: Callable[..., RunDescription], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one variant with two seeds; no test may change it."""
    folder = tmp_path_factory.mktemp("store")
    for seed in (0, 1):
        overrides = [*SMALL, "recipe.epochs=1", f"data.root={folder / 'scenes'}", f"paths.runs={folder / 'runs'}"]
        train(compose_config(*overrides, f"seed={seed}"))
    return folder / "runs"


def collect(store: Path, output: Path) -> Study:
    keys = sorted(path.parent.name for path in store.glob("*/record.json"))
    outcomes = []
    for job, key in enumerate(keys):
        seed = RunFolder(store, key).record().seed
        outcomes.append(Outcome(job, [f"seed={seed}"], "baseline", seed, CHOICES, str(store), key, DONE))
    head = DeclaredStudy(name="small", title="Small", question="Does it work?")
    collect_study(outcomes, head, "python -m src.train -m seed=0,1", False, output)
    return load_study(output)


@pytest.fixture
def study(store: Path, tmp_path: Path) -> Study:
    return collect(store, tmp_path / "study")


def keys_of(study: Study) -> list[str]:
    return sorted(run.folder.key for row in study.rows for run in row.runs.values())


def gather(study: Study, store: Path, wish: Wish = WISH, word: str = "auto") -> tuple[Examples | None, dict[str, str]]:
    beside = study.folder.parent / "beside"
    folder = examples_folder(study, beside, word)
    reasons = gather_examples(study, store, folder, beside, wish)
    return load_examples(folder), reasons


def refuse_to_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(*_: object) -> None:
        raise AssertionError("predicted again")

    monkeypatch.setattr(predicting, "add_predictions", predict)


def test_examples_are_what_the_runs_predict(study, store):
    examples, reasons = gather(study, store, Wish(3, 64, "cpu"))  # at their own size
    assert examples is not None
    assert reasons == {}
    assert list(examples.runs) == keys_of(study)
    assert [image.name for image in examples.images] == ["00000", "00002", "00004"]  # of five, the ends among them
    for key in examples.runs:
        model, config, classes = load_checkpoint(store / key)
        split = read_split(config.data, "val")
        assert examples.classes == tuple(classes)
        for image in examples.images:
            item = split.items[int(image.name)]
            assert image.id == item.id
            pixels = read_image(item.image)
            with torch.inference_mode():
                scores = model(build_eval_transform(config)(pixels)[None]).scores
                scores = torch.nn.functional.interpolate(scores, pixels.shape[:2], mode="bilinear")
            expected = scores.argmax(1)[0].numpy()
            assert (image.width, image.height) == pixels.shape[1::-1]
            assert read_image(examples.image(image)).shape == pixels.shape
            np.testing.assert_array_equal(read_ids(examples.prediction(image, key)), expected)
            truth = read_mask(item.mask, len(classes), split.void_ids)
            np.testing.assert_array_equal(read_ids(examples.truth(image)), truth)


def test_nothing_is_predicted_twice(study, store, monkeypatch):
    first, _ = gather(study, store)
    refuse_to_predict(monkeypatch)
    assert gather(study, store) == (first, {})


def test_a_run_that_comes_later_is_added(study, store, tmp_path):
    one, other = keys_of(study)
    some = tmp_path / "some"
    shutil.copytree(store / one, some / one)
    examples, reasons = gather(study, some)
    assert examples is not None
    assert (list(examples.runs), reasons) == ([one], {})  # the other has no checkpoint here: no word of it
    before = examples.prediction(examples.images[0], one).stat().st_mtime_ns
    examples, _ = gather(study, store)
    assert examples is not None
    assert list(examples.runs) == [one, other]
    assert examples.prediction(examples.images[0], one).stat().st_mtime_ns == before


def test_a_run_trained_anew_is_predicted_anew(study, store):
    """Its record was collected again: the predictions of the training before it are of no use."""
    examples, _ = gather(study, store)
    assert examples is not None
    key = keys_of(study)[0]
    examples.prediction(examples.images[0], key).write_bytes(b"of the training before")
    replace(examples, runs={**examples.runs, key: "0" * 64}).write()
    again, _ = gather(study, store)
    assert again == examples
    assert read_ids(again.prediction(again.images[0], key)).any()


def test_other_wishes_gather_anew(study, store):
    gather(study, store)
    examples, _ = gather(study, store, Wish(2, 24, "cpu"))
    assert examples is not None
    assert (len(examples.images), examples.long_side) == (2, 24)
    assert sorted(path.stem for path in (examples.folder / "images").iterdir()) == ["00000", "00004"]


def test_what_was_gathered_stays_where_nothing_can_be_predicted(study, store, tmp_path):
    before, _ = gather(study, store)
    (tmp_path / "none").mkdir()
    examples, reasons = gather(study, tmp_path / "none", Wish(2, 24, "cpu"))
    assert examples == before
    assert sorted(reasons) == keys_of(study)
    assert "are kept" in reasons[keys_of(study)[0]]
    examples, reasons = gather(study, store, Wish(2, 24, "cpu", Option("folder", {"root": "/nowhere"})))
    assert examples == before
    assert sorted(reasons) == keys_of(study)


def test_a_run_trained_anew_is_left_out_by_name(study, store, tmp_path):
    key = keys_of(study)[0]
    shutil.copytree(store / key, tmp_path / "runs" / key)
    folder = RunFolder(tmp_path / "runs", key)
    folder.write(replace(folder.record(), confusion_sha256="0"))
    examples, reasons = gather(study, tmp_path / "runs")
    assert examples is None
    assert list(reasons) == [key]
    assert "another training" in reasons[key]
    assert gather_histories(study, tmp_path / "runs") == 0


def test_an_old_checkpoint_is_left_out_and_the_others_are_not(study, store, tmp_path):
    one, other = keys_of(study)
    runs = tmp_path / "runs"
    shutil.copytree(store, runs)
    path = runs / one / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["description"]["config"]["backbone"]
    write_sealed(path, lambda file: torch.save(content, file))
    folder = RunFolder(runs, one)
    folder.write(replace(folder.record(), checkpoint_sha256=sha256(path)))
    examples, reasons = gather(study, runs)
    assert examples is not None
    assert list(examples.runs) == [other]
    assert list(reasons) == [one]


def test_other_data_than_the_scored_are_refused(study, store, tmp_path):
    _, config, _ = load_checkpoint(store / keys_of(study)[0])
    data = config.data
    for split in ("train", "val"):
        data = changed(changed(data, f"{split}.root", str(tmp_path / "others")), f"{split}.seed", 5)
    examples, reasons = gather(study, store, Wish(3, 40, "cpu", data))
    assert examples is None
    assert all("not the data that the run was scored on" in reason for reason in reasons.values())
    assert len(reasons) == 2


def test_images_of_a_published_study_go_into_it_on_the_users_word_alone(store, tmp_path, monkeypatch):
    study = collect(store, tmp_path / "experiments" / "small")
    examples, _ = gather(study, store)
    assert examples is not None
    assert examples.folder == tmp_path / "experiments" / "beside" / "examples"
    assert not (study.folder / "examples").exists()
    refuse_to_predict(monkeypatch)
    published, _ = gather(study, store, word="publish")  # copied, not predicted again
    assert published is not None
    assert published.folder == study.folder / "examples"
    assert published.runs == examples.runs


def test_histories_are_taken_over_once(study, store):
    assert gather_histories(study, store) == 2
    assert gather_histories(study, store) == 0
    for key in keys_of(study):
        history = read_history(study.folder / "records" / key / "history.csv")
        score = RunFolder(store, key).record().scores.miou
        assert history[max(history)]["val/miou"] == pytest.approx(score, abs=1e-6)
    assert load_study(study.folder).done()  # a record with a history is still a record


@pytest.mark.parametrize(("total", "wanted", "expected"), [(5, 3, [0, 2, 4]), (2, 9, [0, 1]), (10, 1, [0]), (1, 1, [0])])
def test_images_are_spread_evenly(total, wanted, expected):
    assert spread_evenly(total, wanted) == expected


def test_sizes_are_bounded_in_proportion():
    assert bounded(500, 375, 320) == (320, 240)
    assert bounded(100, 300, 320) == (100, 300)
    assert bounded(3000, 2, 300) == (300, 1)


def test_masks_keep_every_id(tmp_path):
    for ids in (np.arange(20, dtype=np.uint8), np.array([0, 19, VOID], np.uint8)):
        write_ids(tmp_path / "ids.png", ids[None], (len(ids), 1), [str(id) for id in range(20)])
        np.testing.assert_array_equal(read_ids(tmp_path / "ids.png"), ids[None])


def test_masks_are_scaled_without_mixing_ids(tmp_path):
    ids = np.random.default_rng(0).integers(0, 20, (8, 12)).astype(np.uint8)
    write_ids(tmp_path / "ids.png", ids, (6, 4), [str(id) for id in range(20)])
    np.testing.assert_array_equal(read_ids(tmp_path / "ids.png"), ids[1::2, 1::2])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": 9}, "has schema 9"),
        ({"images": [{"id": "x", "name": "../../x", "width": 1, "height": 1}]}, "no file in its folder"),
        ({"runs": {"../../etc": "0"}}, "no file in its folder"),
        ({"runs": {"0123456789abcdef": "0"}}, "no file in its folder"),
        ({"images": [{"id": "x"}]}, "not a whole index"),
    ],
)
def test_an_index_that_is_not_whole_is_refused_by_name(study, store, change, complaint):
    examples, _ = gather(study, store)
    assert examples is not None
    path = examples.folder / "index.json"
    write_sealed_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(UserError, match=complaint):
        load_examples(examples.folder)
