import gc
import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from exfuse.analysis.rendering import render_study
from exfuse.errors import UserError
from exfuse.store.checked import read_plain, write_sealed_json
from exfuse.store.folder import RunFolder
from exfuse.store.study_file import find_studies
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import BASELINE, StudyBuilder, edit_study, make_counts, write_run
from tests.pace import processor
from tests.sharing import amount


def two_rows(folder: Path, change: Callable[[dict[str, Any]], object] | None = None, **content: Any) -> Path:
    """A baseline and a row with SEB on it, two seeds each; ``change`` alters the records of the second."""
    builder = StudyBuilder(folder, **content)
    builder.row("baseline", 0.6, (0, 1))
    builder.row("seb", 0.7, (0, 1), {"seb": "product"}, on="baseline", change=change)
    return builder.finish()


def put(**changes: Any) -> Callable[[dict[str, Any]], object]:
    """Set values of a record by their path, ``config__recipe__epochs=16``."""

    def change(record: dict[str, Any]) -> None:
        for path, value in changes.items():
            *groups, name = path.split("__")
            node = record
            for group in groups:
                node = node[group]
            node[name] = value

    return change


def test_a_study_is_read_with_its_rows_and_records(tmp_path):
    builder = StudyBuilder(tmp_path, factors=["seb"])
    builder.row("baseline", 0.6, (0, 1, 2), status={1: "failed", 2: "missing"})
    builder.row("seb", 0.7, (2, 0), {"seb": "product"}, on="baseline", paper=79.0, decoder="levels_45")
    study = load_study(builder.finish())
    assert (study.name, study.factors, study.mixed, study.paper) == (tmp_path.name, ["seb"], False, None)
    first, second = study.rows
    assert [run.status for run in first.runs.values()] == ["done", "failed", "missing"]
    assert list(first.records) == [0]
    assert (second.on, second.paper, second.paper_trust, second.decoder) == ("baseline", 79.0, "P", "levels_45")
    assert second.options == BASELINE | {"seb": "product"}
    assert list(second.runs) == [0, 2]  # by seed
    assert [(row.name, seed) for row, seed, _ in study.done()] == [("baseline", 0), ("seb", 0), ("seb", 2)]


def test_an_option_that_a_row_does_not_name_is_the_baselines(tmp_path):
    folder = two_rows(tmp_path)
    edit_study(folder, lambda study: [row["options"].pop("dap") for row in study["rows"]])
    study = load_study(folder)
    assert study.row("seb").options == BASELINE | {"seb": "product"}
    assert [technique.name for technique in study.techniques] == ["ss", "lr", "ecre", "seb"]


def test_a_run_whose_key_nobody_could_know_is_missing(tmp_path):
    folder = two_rows(tmp_path)
    edit_study(folder, lambda study: study["rows"][1]["runs"].update({"2": None}))
    edit_study(folder, lambda study: study["rows"].append(study["rows"][0] | {"name": "unplanned", "runs": {}, "on": "seb"}))
    study = load_study(folder)
    assert [run.status for run in study.row("seb").runs.values()] == ["done", "done", "missing"]
    assert study.row("unplanned").runs == {}
    render_study(folder, Console(quiet=True))
    lines = (folder / "table.csv").read_text().splitlines()
    assert "2,3,missing 1" in lines[2]
    assert "0,0," in lines[3]


def test_counts_are_read_when_asked_for_and_verified(tmp_path):
    folder = two_rows(tmp_path)
    run = load_study(folder).row("seb").runs[1]
    np.testing.assert_array_equal(run.counts(), make_counts(0.7, 1))
    assert run.counts().dtype == np.int64
    assert run.image_ids()[1] == "image0001"
    path = run.folder.path / "confusion.npz"
    path.write_bytes(path.read_bytes()[:-30])
    damaged = load_study(folder).row("seb").runs[1]  # the record itself is whole
    with pytest.raises(UserError, match=rf"{run.folder.key}/confusion\.npz"):
        damaged.counts()


ABOVE = {"row": "seb", "lies": "above", "of": ["baseline"]}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda study: study.update(schema=2), r"study\.json is not a whole study: it has schema 2, this version reads 1"),
        (lambda study: study.pop("rows"), r"study\.json is not a whole study: .*rows"),
        (lambda study: study.update(rows=[]), "has no rows"),
        (lambda study: study["rows"][1].update(on="nothing"), "row seb builds on 'nothing', which is no other row"),
        (lambda study: study["rows"][1].update(on="seb"), "row seb builds on 'seb', which is no other row"),
        (lambda study: study["rows"][0].update(on="seb"), "rows build on each other in a circle: baseline, seb, baseline"),
        (lambda study: study.update(claims=2 * [ABOVE]), "that seb lies above baseline is claimed twice"),
        (
            lambda study: study.update(claims=[ABOVE, {"row": "baseline", "lies": "below", "of": ["seb"]}]),
            "that seb lies above baseline is claimed twice",
        ),
        (lambda study: study.update(claims=[ABOVE | {"of": ["baseline", "baseline"]}]), "claim about seb names baseline twice"),
        (lambda study: study["rows"][1].update(name="baseline", on=None), "two rows are called baseline"),
        (lambda study: study["rows"][1]["runs"].update({"0": "../../etc/passwd"}), "which is no run's key"),
        (lambda study: study["rows"][1].pop("decoder"), "is not a whole study: .*decoder"),
        (lambda study: study.update(factors=["seb", "sebb"]), "factor 'sebb' is no technique"),
        (lambda study: study["rows"].pop(), "no row of .*study.json names this record"),
    ],
)
def test_a_study_that_cannot_be_used_is_refused_by_name(tmp_path, edit, message):
    folder = two_rows(tmp_path)
    edit_study(folder, edit)
    with pytest.raises(UserError, match=message) as caught:
        load_study(folder)
    assert "study.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "\0"])
def test_a_study_that_is_no_json_object_is_refused(tmp_path, text):
    folder = two_rows(tmp_path)
    (folder / "study.json").write_text(text)
    with pytest.raises(UserError, match=r"study\.json"):
        load_study(folder)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no study\.json"):
        load_study(tmp_path)


def test_a_record_that_was_altered_is_refused_by_name(tmp_path):
    folder = two_rows(tmp_path)
    path = sorted((folder / "records").glob("*/record.json"))[3]
    record = json.loads(path.read_text())
    record["scores"]["miou"] += 0.01
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=str(path)):
        load_study(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["choices"].update({"technique/dap": "wide"}), "technique/dap is wide, the row says none"),
        (lambda record: record["choices"].update(decoder="levels_45"), "decoder is levels_45, the row says levels_2345"),
        (lambda record: record.update(seed=7), "seed is 7, the row says 0"),
    ],
)
@pytest.mark.parametrize("status", ["done", "failed"])
def test_a_record_that_contradicts_its_row_is_refused_by_name(tmp_path, change, message, status):
    builder = StudyBuilder(tmp_path)
    (run,) = builder.row("seb", 0.7, (0,), {"seb": "product"}, status={0: status}, change=change)
    with pytest.raises(UserError, match=f"{run.key}/record.json contradicts row seb.*{message}"):
        load_study(builder.finish())


def test_the_record_of_a_backbone_is_refused(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.7, (0,), change=lambda record: record.pop("scores"))
    with pytest.raises(UserError, match="not the record of a run that was scored"):
        load_study(builder.finish())


DIFFERENT = [
    ("environment.commit", "cccccccc", "dddddddd", {"environment__commit": "d" * 40}),
    ("environment.threads", "1", "3", {"environment__threads": 3}),  # on CPUs
    ("manifests.train", "aaaaaaaa", "eeeeeeee", {"manifests__train": "e" * 64}),
    ("recipe.epochs", "12", "16", {"config__recipe__epochs": 16}),
    ("recipe.augmentation.crop", "128", "96", {"config__recipe__augmentation": {"crop": 96}}),
    ("data.seed", "0", "1", {"config__data__seed": 1}),
    ("backbone.output_stride", "32", "16", {"config__backbone__output_stride": 16}),
    ("backbone.init", "pretrained", "random", {"config__backbone__init": "random"}),
    ("backbone.init", "pretrained", "file", {"config__backbone__init": "/there/weights.pth"}),
    ("trainer.precision", "32-true", "bf16-mixed", {"config__trainer__precision": "bf16-mixed"}),
    ("runtime.compile", "False", "True", {"config__runtime__compile": True}),
    ("pretraining.recipe.epochs", "12", "3", {"config__pretraining__recipe__epochs": 3}),
    ("pretraining.made_with.precision", "32-true", "bf16-mixed", {"pretrained_with": {"precision": "bf16-mixed"}}),
    ("brand_new", "(absent)", "1", {"config__brand_new": 1}),
]


@pytest.mark.parametrize(("setting", "usual", "other", "changes"), DIFFERENT)
def test_runs_that_differ_in_what_a_table_holds_fixed_are_refused(tmp_path, setting, usual, other, changes):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6, change=put(pretrained_with={"precision": "32-true"}))
    change = put(**{"pretrained_with": {"precision": "32-true"}} | changes)
    builder.row("seb", 0.7, (0, 1), {"seb": "product"}, change=change)
    name = setting.removeprefix("environment.")
    with pytest.raises(UserError) as caught:
        load_study(builder.finish())
    assert f"{name}: {usual} in 3 of 5 runs, {other} (seb seeds 0, 1)" in str(caught.value)
    assert "sweep.mixed=true" in str(caught.value)
    edit_study(tmp_path, lambda study: study.update(mixed=True))
    study = load_study(tmp_path)
    assert name in [deviation.setting for deviation in study.deviations]
    assert study.deviating == {("seb", 0), ("seb", 1)}


OWN = {"config__backbone__init": "w.pth"}


def window(size: int) -> dict[str, Any]:
    return {"config__technique": {"dap": {"window": size}}}


@pytest.mark.parametrize(
    ("setting", "usual", "other", "change", "changes"),
    [
        ("weights", "aaaaaaaa", "bbbbbbbb", OWN | {"manifests__backbone": "a" * 64}, {"manifests__backbone": "b" * 64}),
        ("processes", "1", "4", {}, {"config__trainer": {"devices": 4}}),
        ("processes", "1", "2", {}, {"environment__processes": 2}),
        ("decoder.kernel", "7", "15", {"config__decoder": {"kernel": 7}}, {"config__decoder": {"kernel": 15}}),
        ("technique.dap.window", "3", "5", window(3), window(5)),
    ],
)
def test_seeds_of_one_row_that_differ_are_refused(tmp_path, setting, usual, other, change, changes):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6, (0, 1), change=put(**change))
    builder.row("baseline", 0.6, (2,), change=put(**change | changes))
    first, second = builder.rows
    builder.rows[:] = [first | {"runs": first["runs"] | second["runs"]}]
    with pytest.raises(UserError, match=f"{setting}: {usual} in 2 of 3 runs, {other} \\(baseline seed 2\\)"):
        load_study(builder.finish())


def test_what_a_row_overrides_is_the_same_for_its_seeds(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6, (0, 1), change=put(**window(3)))
    builder.row("baseline", 0.6, (2,), change=put(**window(5)))
    first, second = builder.rows
    builder.rows[:] = [first | {"runs": first["runs"] | second["runs"]}]
    folder = builder.finish()
    edit_study(folder, lambda study: study.update(settings={"baseline": {"technique/dap": "wide"}}))
    with pytest.raises(UserError, match=r"technique\.dap\.window: 3 in 2 of 3 runs, 5 \(baseline seed 2\)"):
        load_study(folder)


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ({"devices": 1, "sync_batchnorm": True}, {"devices": 4, "sync_batchnorm": True}, False),
        ({"devices": 1, "sync_batchnorm": False}, {"devices": 2, "sync_batchnorm": True}, False),  # one sees all of a batch too
        ({"devices": 1, "sync_batchnorm": False}, {"devices": 2, "sync_batchnorm": False}, True),
        ({"devices": "0,", "sync_batchnorm": False}, {"devices": 1, "sync_batchnorm": False}, False),
        ({"devices": -1, "sync_batchnorm": False}, {"devices": -1, "sync_batchnorm": False, "told": 1}, False),  # nobody knows
    ],
)
def test_processes_count_where_each_sees_a_part_of_a_batch_by_itself(tmp_path, one, other, count):
    builder = StudyBuilder(tmp_path)
    for name, trainer in (("baseline", one), ("seb", other)):
        told = {"environment__cuda": "12.8", "environment__processes": trainer.get("told")}
        trainer = {key: value for key, value in trainer.items() if key != "told"}
        options = {"seb": "product"} if name == "seb" else None
        builder.row(name, 0.6, options=options, change=put(config__trainer=trainer, **told))
    with pytest.raises(UserError, match="processes: ") if count else nullcontext():
        assert load_study(builder.finish()).deviations == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"manifests__backbone": "f" * 16},
        {"config__pretraining__seed": 5},
        {"config__pretraining__data": {"train": {"of": {"root": "/elsewhere"}}}},
        {"config__decoder": {"levels": [4, 5]}},
        {"config__paths": {"runs": "/elsewhere"}},
        {"config__data__root": "/elsewhere"},
        {"config__backbone__missing": "refuse"},
        {"config__recipe__val_every": 1},
        {"config__runtime__threads": 3},
        {"environment__device": "another CPU"},
        {"environment__packages": {"torch": "2.15.0"}},
        {"environment__uncommitted_changes": True},
        {"weights": "pretrained elsewhere"},
    ],
)
def test_what_may_differ_is_not_refused(tmp_path, changes):
    assert load_study(two_rows(tmp_path, put(**changes))).deviations == ()


def test_runs_that_did_not_finish_need_not_agree(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6)
    builder.row("seb", 0.7, (0,), {"seb": "product"}, status={0: "failed"}, change=put(environment__commit="d" * 40))
    assert load_study(builder.finish()).deviations == ()


def test_pretraining_does_not_count_where_public_weights_start_the_run(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6, change=put(config__backbone__init="timm"))
    change = put(config__backbone__init="timm", config__pretraining__recipe__epochs=3)
    builder.row("seb", 0.7, options={"seb": "product"}, change=change)
    assert load_study(builder.finish()).deviations == ()


def test_study_folders_are_found_in_a_folder_of_them(tmp_path):
    one, other = two_rows(tmp_path / "b"), two_rows(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    assert find_studies([tmp_path]) == [other, one]
    assert find_studies([one, tmp_path]) == [one, other]
    with pytest.raises(UserError, match=r"empty holds no study\.json"):
        find_studies([tmp_path / "empty"])


def test_tables_need_neither_torch_nor_hydra():
    code = "import sys, exfuse.analysis.rendering; print({'torch', 'hydra', 'omegaconf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "seconds"), amount([(30, 3)], [(1667, 10)]))  # of three seeds each
def test_five_thousand_records_become_tables_and_figures_in_ten_seconds(tmp_path, rows, seconds):
    counts = [make_counts(0.7, seed) for seed in range(10)]
    builder = StudyBuilder(tmp_path)
    for place in range(rows):
        runs = {seed: f"{place:08x}{seed:08x}" for seed in range(3)}
        on = "row0" if place else None
        row = {"name": f"row{place}", "options": BASELINE, "decoder": "levels_2345", "on": on, "paper": None}
        builder.rows.append(row | {"runs": runs})
        for seed, key in runs.items():
            write_run(
                RunFolder(tmp_path / "records", key), BASELINE, "levels_2345", 0.7, seed, counts=counts[(place + seed) % 10]
            )
    builder.finish()
    import_module("exfuse.analysis.figures.cost")  # half a second of matplotlib, however many records there are
    gc.collect()
    gc.freeze()  # what other tests left in this process is not looked through again and again
    taken = []
    while len(taken) < 4 and (not taken or taken[0] >= seconds):  # again from the records where other processes were in the way
        started = time.process_time()
        render_study(tmp_path, Console(quiet=True))
        taken.append(time.process_time() - started)
    gc.unfreeze()
    assert min(taken) < processor(seconds, min(taken))
    assert len((tmp_path / "table.csv").read_text().splitlines()) == rows + 1


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("costs__gigamacs", value) for value in (math.inf, math.nan, -1, 10**400)),
        *(("scores__miou", value) for value in (math.nan, 1.5, -0.1, 10**400)),
        *(("scores__confusion", [[10**40]]), ("scores__iou", {"background": math.inf}), ("parameters", 2**60)),
    ],
)
def test_numbers_that_no_run_leaves_are_refused_by_name(place: str, value: object, tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path / "study")
    (run,) = builder.row("baseline", 0.6, (0,))
    content = json.loads((run.path / "record.json").read_text())
    put(**{place: value})(content)
    write_sealed_json(run.path / "record.json", content)
    with pytest.raises(UserError, match=r"record\.json is not"):
        load_study(builder.finish())


@pytest.mark.parametrize("name", ["a/b", "..", ".a", "a.", "a ", "con", "NUL", "com1.x", "a\n", "x" * 81, "", "a\x1b"])
def test_a_study_has_a_name_that_any_file_system_takes(name: str, tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path / "study", name=name)
    builder.row("baseline", 0.6, (0,))
    with pytest.raises(UserError, match=r"study\.json is not a whole study"):
        load_study(builder.finish())


def test_control_characters_are_replaced_in_what_is_written_and_refused_in_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed_json(path, {"a": "x\x1b[31m\x00\ud800 \N{GRINNING FACE}\n", "b\x9b": [{"c": "\x7f"}]})
    mark = "\N{REPLACEMENT CHARACTER}"
    expected = {"a": f"x{mark}[31m{mark}{mark} \N{GRINNING FACE}\n", f"b{mark}": [{"c": mark}]}
    assert read_plain(path, "a file", "Mend it.") == expected
    content = {"a": "\x1b[31m"}
    seal = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content | {"checksum": seal}))
    with pytest.raises(UserError, match="control characters"):
        read_plain(path, "a file", "Mend it.")
