"""From outcomes to a study's folder."""

import errno
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from exfuse.errors import UserError
from exfuse.files import sha256
from exfuse.store.folder import BOUNDARY, COUNTS, RunFolder
from exfuse.store.outcome import Outcome
from exfuse.store.record import DONE, FAILED
from exfuse.store.study_file import check_place
from exfuse.store.study_reading import load_study
from exfuse.sweeps import collect as collecting, study_folder
from exfuse.sweeps.collect import collect_study, portable
from exfuse.sweeps.declared import DeclaredRow, DeclaredStudy
from tests.command import Command
from tests.records import SCORES, leave_record

STUDY = DeclaredStudy(name="x", title="X", question="?")
CHOICES = {f"technique/{name}": "none" for name in ("ss", "lr", "ecre", "seb", "dap")} | {"decoder": "levels_2345"}
ROWS = {"baseline": DeclaredRow(paper=76.0), "seb": DeclaredRow(builds_on="baseline")}


def key(number: int) -> str:
    return f"{number:016x}"


def run(store: Path, number: int) -> RunFolder:
    """A finished run that remembers where it lay."""
    folder = RunFolder(store, key(number))
    folder.path.mkdir(parents=True)
    np.savez_compressed(folder.path / COUNTS, counts=np.full((2, 3, 3), number), ids=np.array(["a", "b"]))
    config = {"data": {"root": "/home/me/VOC2012", "name": "VOC 2012"}, "batch": 4}
    leave_record(folder, "done", config=config, scores=SCORES, confusion_sha256=sha256(folder.path / COUNTS))
    return folder


def outcome(store: Path, number: int, row: str, seed: int = 0, status: str = DONE, overrides: tuple[str, ...] = ()) -> Outcome:
    own = [f"+ablation={row}", f"seed={seed}", *overrides]
    return Outcome(number, own, row, seed, CHOICES, store=str(store), key=key(number), status=status)


def collect(outcomes: list[Outcome], output: Path, rows: Mapping[str, DeclaredRow] = ROWS) -> tuple[bool, dict[str, Any]]:
    changed = collect_study(outcomes, replace(STUDY, rows=dict(rows)), "python -m src.train", False, output)
    return changed, json.loads((output / "study.json").read_text())


def test_cells_name_their_runs_and_records_are_copied_whole(tmp_path: Path) -> None:
    store, output = tmp_path / "runs", tmp_path / "study"
    runs = [run(store, number) for number in range(4)]
    outcomes = [outcome(store, number, "baseline" if number < 2 else "seb", number % 2) for number in range(4)]
    changed, study = collect(outcomes, output)
    assert changed
    assert [(row["name"], row["on"], row["paper"], row["runs"]) for row in study["rows"]] == [
        ("baseline", None, 76.0, {"0": key(0), "1": key(1)}),
        ("seb", "baseline", None, {"0": key(2), "1": key(3)}),
    ]
    for source in runs:
        copied = RunFolder(output / "records", source.key)
        assert copied.record()
        assert np.array_equal(copied.counts()[0], source.counts()[0])


def test_collecting_the_same_again_changes_nothing_and_damage_is_mended(tmp_path: Path) -> None:
    store, output = tmp_path / "runs", tmp_path / "study"
    run(store, 0)
    outcomes = [outcome(store, 0, "baseline")]
    assert collect(outcomes, output)[0]
    assert not collect(outcomes, output)[0]
    (output / "records" / key(0) / COUNTS).write_bytes(b"broken")
    assert collect(outcomes, output)[0]
    RunFolder(output / "records", key(0)).counts()


def test_areas_near_borders_are_copied_where_a_run_has_them_and_mended(tmp_path: Path) -> None:
    store, output = tmp_path / "runs", tmp_path / "study"
    folder = run(store, 0)
    record = folder.record()
    assert record is not None
    np.savez_compressed(
        folder.path / BOUNDARY, radii=np.array([1]), **dict.fromkeys(("hit", "true", "predicted"), np.ones((2, 3, 3)))
    )
    folder.write(replace(record, boundary_sha256=sha256(folder.path / BOUNDARY)))
    run(store, 1)
    outcomes = [outcome(store, 0, "baseline"), outcome(store, 1, "seb")]
    assert collect(outcomes, output)[0]
    copied = output / "records" / key(0) / BOUNDARY
    assert copied.read_bytes() == (folder.path / BOUNDARY).read_bytes()
    assert not (output / "records" / key(1) / BOUNDARY).exists()
    assert not collect(outcomes, output)[0]
    copied.unlink()
    assert collect(outcomes, output)[0]
    assert copied.is_file()


def test_a_collection_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, output = tmp_path / "runs", tmp_path / "study"
    for number in range(2):
        folder = run(store, number)
        record = folder.record()
        assert record is not None
        folder.write(replace(record, seed=number))
    outcomes = [outcome(store, number, "baseline", number) for number in range(2)]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(collecting.shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            collect(outcomes, output)
    check_place(output)  # which a later start asks first
    assert all(not row.records for row in load_study(output).rows)
    collect(outcomes, output)
    assert [len(row.records) for row in load_study(output).rows] == [2]


def test_the_radius_that_parts_edges_from_interiors_goes_into_the_study(tmp_path: Path) -> None:
    store, output = tmp_path / "runs", tmp_path / "study"
    run(store, 0)
    assert "edge_radius" not in collect([outcome(store, 0, "baseline")], output)[1]
    collect_study([outcome(store, 0, "baseline")], replace(STUDY, rows=dict(ROWS), edge_radius=5), "again", False, output)
    assert json.loads((output / "study.json").read_text())["edge_radius"] == 5


def test_a_record_of_an_earlier_collection_that_no_cell_names_goes(tmp_path: Path) -> None:
    store, output = tmp_path / "runs", tmp_path / "study"
    for number in range(2):
        run(store, number)
    collect([outcome(store, 0, "baseline")], output)
    collect([outcome(store, 1, "baseline")], output)
    assert [path.name for path in (output / "records").iterdir()] == [key(1)]


def test_a_record_that_may_yet_be_named_stays(tmp_path: Path) -> None:
    """Of a study that takes its looks anew, whose folder may be the only place of what follows."""
    store, output = tmp_path / "runs", tmp_path / "study"
    for number in range(2):
        run(store, number)
    both = [outcome(store, number, "baseline", number) for number in range(2)]
    collect(both, output)
    collect_study(both[:1], replace(STUDY, rows=dict(ROWS)), "again", False, output, whole=False)
    assert {path.name for path in (output / "records").iterdir()} == {key(0), key(1)}


def test_looks_are_those_of_the_same_runs_wherever_the_studys_folder_is(tmp_path: Path) -> None:
    for place in ("study", "study-0123abcd"):
        (tmp_path / place / "records" / place).mkdir(parents=True)
        (tmp_path / place / "study.json").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_folder, "load_sequential", lambda folder: folder.name)
        assert study_folder.looked_at(tmp_path / "study", ["study"]) == "study"
        assert study_folder.looked_at(tmp_path / "study", ["study-0123abcd"]) == "study-0123abcd"
        assert study_folder.looked_at(tmp_path / "study", ["other"]) is None
        (tmp_path / "study" / "records" / "study-0123abcd").mkdir()  # a plain study of the same run lies in the first place
        patch.setattr(study_folder, "load_sequential", lambda folder: folder.name if folder.name != "study" else None)
        assert study_folder.looked_at(tmp_path / "study", ["study-0123abcd"]) == "study-0123abcd"


def test_what_a_study_may_spend_is_no_part_of_its_command() -> None:
    command = "exfuse train +study=x sweep.until=decided"
    for spent in ("sweep.most.hours=7", "++sweep.most.hours=7", "sweep.most={hours:7}"):
        assert study_folder._unspent(f"{command} '{spent}' sweep.size=1") == f"{command} sweep.size=1"


def test_a_run_whose_counts_are_not_its_records_is_not_collected(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    (run(store, 0).path / COUNTS).write_bytes(b"other")
    with pytest.raises(UserError, match="does not hold the confusion counts"):
        collect([outcome(store, 0, "baseline")], tmp_path / "study")


def test_a_failed_run_is_collected_with_its_reason_and_a_missing_one_as_an_empty_cell(tmp_path: Path) -> None:
    store, output = tmp_path / "runs", tmp_path / "study"
    leave_record(RunFolder(store, key(0)), "failed", traceback='Traceback\n  File "/home/me/x.py"\nValueError: too big')
    unplanned = outcome(store, 1, "baseline", seed=1, status=FAILED)
    unplanned.key = ""
    _, study = collect([outcome(store, 0, "baseline", status=FAILED), unplanned], output)
    record = RunFolder(output / "records", key(0)).record()
    assert record is not None
    assert record.reason == "ValueError: too big"
    assert not record.traceback
    assert study["rows"][0]["runs"] == {"0": key(0), "1": None}


def test_two_settings_cannot_share_a_cell(tmp_path: Path) -> None:
    outcomes = [outcome(tmp_path, number, "seb", overrides=(f"recipe.lr={number}",)) for number in range(2)]
    with pytest.raises(UserError, match=r"row seb, seed 0: they differ in recipe\.lr=0, recipe\.lr=1"):
        collect(outcomes, tmp_path / "study")


def test_a_plain_multiruns_rows_say_what_else_was_swept(tmp_path: Path) -> None:
    outcomes = [outcome(tmp_path, number, "seb", overrides=(f"recipe.lr={number}", "data=voc")) for number in range(2)]
    _, study = collect(outcomes, tmp_path / "study", rows={})
    assert [row["name"] for row in study["rows"]] == ["seb recipe.lr=0", "seb recipe.lr=1"]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("/home/me/data/VOC2012", "VOC2012"),
        ("/home/Jane Doe/my data", "my data"),
        (f"data.root={Path.cwd()}/VOC2012", "data.root=VOC2012"),
        ("weights of /a/b/c.pth, 3 images/s", "weights of c.pth, 3 images/s"),
        ("outputs/runs/abc", "outputs/runs/abc"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("10 GMACs/image", "10 GMACs/image"),
        ("[Errno 2] No such file: '/srv/x/y.jpg'", "[Errno 2] No such file: 'y.jpg'"),
    ],
)
def test_a_record_that_travels_tells_nothing_of_the_machines_folders(text: str, cut: str) -> None:
    assert portable({"a": [text, 1, None], "b": {"c": text}}) == {"a": [cut, 1, None], "b": {"c": cut}}


def test_what_rows_differ_in_is_known_from_the_study_where_the_runs_are_gone(
    finished_run: RunFolder, small_overrides: list[str], command: Command, tmp_path: Path
) -> None:
    small = [word for word in small_overrides if not word.startswith("recipe.epochs=")]
    epochs = next(word for word in small_overrides if word.startswith("recipe.epochs="))
    runs, study = shutil.copytree(finished_run.root, tmp_path / "runs"), tmp_path / "study"
    typed = ["train", "-m", *small, "+study=vary", f"{epochs},1", "+ablation=seb_ecre", "seed=0", f"paths.runs={runs}"]
    typed += [f"hydra.sweep.dir={tmp_path}/sweep", f"sweep.output={study}"]
    assert command(*typed)[0] == 0
    before = json.loads((study / "study.json").read_text())
    assert before["settings"]
    shutil.rmtree(runs)
    command(*typed, "sweep.missing=skip")
    assert json.loads((study / "study.json").read_text())["settings"] == before["settings"]
    assert len(load_study(study).done()) == 2


def test_a_study_goes_on_from_its_records_alone(
    finished_run: RunFolder,
    small_overrides: list[str],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # reasons stand on one line
    typed = ["train", "-m", *small_overrides, "+ablation=seb_ecre", "seed=0", "sweep.missing=skip"]
    typed.append(f"hydra.sweep.dir={tmp_path}/sweep")
    first, second, empty = tmp_path / "first", tmp_path / "second", f"paths.runs={tmp_path / 'empty'}"
    assert command(*typed, f"paths.runs={finished_run.root}", f"sweep.output={first}")[0] == 0
    assert command(*typed, empty, f"sweep.output={second}")[0] == 1
    status, said, told = command(*typed, empty, f"sweep.output={second}", f"sweep.known={first}")
    assert status == 0, said + told
    assert "1 skipped" in said
    for name in ("record.json", "confusion.npz"):
        copies = [(study / "records" / finished_run.key / name).read_bytes() for study in (first, second)]
        assert copies[0] == copies[1]
    status, said, told = command(*typed, empty, f"sweep.output={second}", f"sweep.known={tmp_path}")
    assert status == 1
    assert f"sweep.known={tmp_path}: expected a study's folder, with its study.json." in said + told
    assert "1 of 1" not in said + told  # before any run is asked about
