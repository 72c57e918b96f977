"""Runs listed, shown, named and removed."""

import json
import os
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from exfuse.errors import UserError
from exfuse.store.find import find_run
from exfuse.store.folder import RunFolder
from exfuse.store.record import OLD, Record, Scores
from tests.command import Command


def leave(root: Path, key: str, name: str, data: str, status: str = "done", miou: float = 0.5, seed: int = 0) -> RunFolder:
    """A run's folder with a record, and a file of 10 kB."""
    folder = RunFolder(root, key)
    scored = Scores(miou=miou, pixel_accuracy=0.9, iou={"a": miou}, images=3, confusion=[[1]]) if status == "done" else None
    choices = {"data": data, "recipe": "small", "technique/seb": "product"}
    config = {"data": {"option": data, "name": data.upper()}, "backbone": {"init": "random"}}
    label = {"seb": "seb-product"}.get(name, name)
    record = Record(
        key=key,
        status=status,
        name=name,
        label=label,
        choices=choices,
        config=config,
        seed=seed,
        scored=scored,
        reason="why not",
    )
    folder.write(record)
    (folder.path / "weights").write_bytes(bytes(10_000))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    for number, (key, *about) in enumerate(
        [
            ("0a" * 8, "seb", "voc", "done", 0.4),
            ("0b" * 8, "seb", "voc", "done", 0.6, 1),
            ("0c" * 8, "baseline", "scenes", "done", 0.7),
            ("0d" * 8, "mine", "voc", "failed"),
            ("0e" * 8, "late", "voc", "running"),
        ]
    ):
        path = leave(root, key, *about).path / "record.json"
        os.utime(path, (1e9 + number, 1e9 + number))
    return root


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ([], ["0e", "0d", "0c", "0b", "0a"]),
        (["sort=miou"], ["0c", "0b", "0a", "0e", "0d"]),
        (["sort=name", "status=done"], ["0c", "0b", "0a"]),
        (["data=voc", "status=done"], ["0b", "0a"]),
        (["name=seb", "seed=1"], ["0b"]),
        (["status=interrupted"], ["0e"]),
        (["recipe=voc"], []),
    ],
)
def test_the_list_is_filtered_and_sorted(command: Command, runs: Path, filters: list[str], keys: list[str]) -> None:
    status, out, _ = command("runs", f"paths.runs={runs}", "json=true", *filters)
    assert status == 0
    assert [row["key"][:2] for row in json.loads(out)] == keys


def test_what_lacks_a_column_is_sorted_last(command: Command, runs: Path) -> None:
    (runs / ("0f" * 8)).mkdir()
    (runs / ("0f" * 8) / "record.json").write_text("{")
    status, out, told = command("runs", f"paths.runs={runs}", "json=true", "sort=recipe")
    assert status == 0, told
    assert json.loads(out)[-1]["status"] == "damaged"


def test_a_folder_of_configs_may_stand_before_the_verb(command: Command, runs: Path, tmp_path: Path) -> None:
    status, out, told = command("--config-dir", tmp_path, "runs", f"paths.runs={runs}", "json=true")
    assert status == 0, told
    assert len(json.loads(out)) == 5


def test_the_list_is_a_table_with_what_people_ask_for(command: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (runs / ("0a" * 8) / "record.json").write_text("{}")
    status, out, _ = command("runs", f"paths.runs={runs}")
    assert status == 0
    for words in ("name data recipe seed status mIoU % date MB key", "baseline SCENES small 0 done 70.0 2001-09-09", "damaged"):
        assert words in " ".join(out.split())


def test_runs_of_one_name_say_what_differs_and_fit_80_columns(
    command: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for key, epochs in (("0a" * 8, 1), ("0b" * 8, 12)):
        folder = RunFolder(runs, key)
        record = folder.record()
        assert record is not None
        folder.write(replace(record, config=record.config | {"recipe": {"epochs": epochs, "batch_size": 8}}))
    folder.write(replace(record, status="interrupted", config=record.config | {"recipe": {"epochs": 12, "batch_size": 8}}))
    _, out, _ = command("runs", f"paths.runs={runs}")
    assert "epochs=1\n" in out.replace(" ", "")
    assert "epochs=12\n" in out.replace(" ", "")
    assert "batch_size" not in out
    assert "interrupted" in out
    assert max(map(len, out.splitlines())) <= 80
    _, out, _ = command("runs", f"paths.runs={runs}", "json=true", "name=baseline")
    assert json.loads(out)[0]["differs"] == ""
    with pytest.raises(UserError, match=r"seed 1, epochs=12, interrupted.*seed 0, epochs=1, done"):
        find_run("seb", runs)


def test_a_run_of_an_earlier_version_is_marked(command: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = RunFolder(runs, "0a" * 8)
    folder.write(replace(folder.record(), schema=OLD))
    _, out, _ = command("runs", f"paths.runs={runs}")
    assert [line.split()[0] for line in out.splitlines() if "done, old" in line] == ["seb"]
    _, out, _ = command("runs", "show", "0a0a", f"paths.runs={runs}")
    assert f"of an earlier version: schema {OLD}" in out


def test_a_column_that_is_none_is_refused(command: Command, runs: Path) -> None:
    status, _, told = command("runs", f"paths.runs={runs}", "sort=colour")
    assert status == 1
    assert "sort=colour: expected name, data, recipe" in told


def test_a_run_is_shown_by_its_name(command: Command, runs: Path) -> None:
    status, out, _ = command("runs", "show", "mine", f"paths.runs={runs}")
    assert status == 0
    assert "why not" in out
    status, out, _ = command("runs", "show", "0c0c", f"paths.runs={runs}", "json=true")
    assert json.loads(out)["name"] == "baseline"


@pytest.mark.parametrize("text", ["baseline", "0c0", "0c" * 8])
def test_a_run_is_known_by_name_key_and_first_digits(runs: Path, text: str) -> None:
    assert find_run(text, runs) == runs / ("0c" * 8)


def test_a_label_is_a_name_too_and_a_path_stands_for_itself(runs: Path, tmp_path: Path) -> None:
    leave(runs, "1a" * 8, "sum", "voc")
    assert find_run("sum", runs) == runs / ("1a" * 8)
    assert find_run("elsewhere/x", runs) == Path("elsewhere/x")
    assert find_run(str(runs / "1a1a"), Path("elsewhere")) == runs / ("1a" * 8)
    for path in (runs / "sum", runs / "1b1b", runs / ("1a" * 8) / "weights.pth", runs / ("1a" * 8) / "1a1a"):
        assert find_run(str(path), Path("elsewhere")) == path  # a name is none of a path's, nor are others' digits
    assert find_run("last.ckpt", runs) == Path("last.ckpt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seb", r"seb is the name of 2 runs.*0b0b.*\(seb, VOC, small, seed 1, done\); 0a0a.*seed 0"),
        ("basline", "no run basline.*Did you mean baseline"),
        ("zzz", r"no run zzz.*There are: baseline \(0c0c0c0c\), late \(.{8}\), mine \(.{8}\), seb \(0b0b0b0b, 0a0a0a0a\)"),
    ],
)
def test_whoever_is_unclear_sees_the_candidates(runs: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=rf"(?s){says}"):
        find_run(text, runs)


def test_runs_go_only_when_somebody_agrees(command: Command, runs: Path) -> None:
    status, out, _ = command("runs", "rm", "mine", "late", f"paths.runs={runs}", "dry=true")
    assert status == 0
    assert re.search(r"Would remove 2 runs, [\d.]+ (bytes|kB)", out)
    status, _, told = command("runs", "rm", "mine", f"paths.runs={runs}")
    assert status == 1
    assert "add yes=true" in told
    assert len([*runs.iterdir()]) >= 5
    status, out, _ = command("runs", "rm", "mine", f"paths.runs={runs}", "yes=true")
    assert status == 0
    assert not (runs / ("0d" * 8)).exists()
    assert (runs / ("0e" * 8)).exists()


def test_a_run_that_is_being_trained_stays(command: Command, runs: Path) -> None:
    with RunFolder(runs, "0e" * 8).locked():
        status, _, told = command("runs", "rm", "late", f"paths.runs={runs}", "yes=true")
    assert status == 75
    assert "being trained" in told
    assert (runs / ("0e" * 8)).exists()


def test_the_disk_is_accounted_for(command: Command, runs: Path) -> None:
    status, out, _ = command("runs", "du", f"paths.runs={runs}", "json=true")
    assert status == 0
    assert json.loads(out)["runs"] > 50_000


def test_a_studys_records_do_not_go_as_runs(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = leave(tmp_path / "study" / "records", "1a" * 8, "seb", "voc")
    (tmp_path / "study" / "study.json").write_text("{}")
    status, _, told = command("runs", "rm", str(run.root), "yes=true")
    assert status == 1
    assert "evidence of the table of" in told
    monkeypatch.chdir(run.root)
    assert command("runs", "rm", run.key, "yes=true")[0] == 1
    assert run.path.is_dir()
    elsewhere = leave(tmp_path / "runs", "2b" * 8, "seb", "voc")  # a record may be a link
    (run.root / elsewhere.key).symlink_to(elsewhere.path)
    assert command("runs", "rm", str(run.root / elsewhere.key), "yes=true")[0] == 1
    assert elsewhere.path.is_dir()


def test_a_run_in_training_does_not_go_through_a_link_that_is_called_as_it_is(command: Command, tmp_path: Path) -> None:
    run = leave(tmp_path / "runs", "2b" * 8, "seb", "voc")
    link = tmp_path / "picked" / run.key
    link.parent.mkdir()
    link.symlink_to(run.path)
    with run.locked():
        status, _, told = command("runs", "rm", str(link), "yes=true")
    assert status == 75  # of a run that another process holds
    assert "is being trained by another process" in told
    assert run.path.is_dir()
    assert command("runs", "rm", str(link), "yes=true")[0] == 0
    assert not run.path.exists()


def test_runs_of_other_data_or_recipes_are_told_apart_by_their_columns(
    command: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for key, recipe, batch_size in (("0a" * 8, "small", 8), ("0b" * 8, "scenes", 16)):
        folder = RunFolder(runs, key)
        record = folder.record()
        assert record is not None
        config = record.config | {"recipe": {"epochs": 12, "batch_size": batch_size}}
        folder.write(replace(record, config=config, choices=record.choices | {"recipe": recipe}))
    _, out, _ = command("runs", f"paths.runs={runs}")
    assert "batch_size" not in out
