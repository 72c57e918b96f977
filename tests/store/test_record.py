"""Records: whole, unaltered and of this schema, or refused by name."""

import errno
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from exfuse.errors import UserError
from exfuse.store.find import find_run
from exfuse.store.folder import COUNTS, RunFolder, list_runs
from exfuse.store.record import OLD, SCHEMA, BackboneRecord, BoundaryScores, Record
from tests.records import SCORES, leave_record
from tests.sharing import amount

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)  # control characters are replaced
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT, st.lists, max_leaves=5)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path, "abc")
    leave_record(folder, "done", scores=SCORES, seed=1)
    return folder


def change(folder: RunFolder, **content: Any) -> None:
    path = folder.path / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


def test_a_record_is_read_as_it_was_written(folder: RunFolder) -> None:
    record = folder.record()
    assert record is not None
    assert (record.schema, record.key, record.status, record.seed) == (SCHEMA, "abc", "done", 1)


@settings(max_examples=amount(30, 100))
@given(content=st.dictionaries(TEXT, JSON))
def test_any_plain_config_survives_the_file(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("record"), "abc")
    leave_record(folder, "done", config=content)
    record = folder.record()
    assert record is not None
    assert record.config == content


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"scores": {"miou": 0.6}}, "altered"),
        ({"extra": 1}, "altered"),
        ({"seed": 2}, "altered"),
        ({"schema": OLD - 1}, f"has schema {OLD - 1}"),
        ({"schema": OLD}, "altered"),
        ({"schema": SCHEMA + 1}, f"has schema {SCHEMA + 1}"),
        ({"key": "other"}, "altered"),
        ({"checksum": "0" * 64}, "altered"),
    ],
)
def test_an_altered_or_foreign_record_is_refused_by_name(folder: RunFolder, content: dict[str, Any], why: str) -> None:
    change(folder, **content)
    with pytest.raises(UserError, match=rf"abc/record\.json is not a whole record of abc.*{why}"):
        folder.record()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_record_that_was_cut_short_is_refused(folder: RunFolder, share: float) -> None:
    path = folder.path / "record.json"
    whole = path.read_text()
    path.write_text(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="cut short"):
        folder.record()


def with_counts(tmp_path: Path) -> RunFolder:
    from exfuse.files import sha256

    folder = RunFolder(tmp_path, "abc")
    folder.path.mkdir()
    np.savez_compressed(folder.path / COUNTS, counts=np.ones((3, 2, 2), np.int32), ids=np.array(["a", "b", "c"]))
    leave_record(folder, "done", scores=SCORES, confusion_sha256=sha256(folder.path / COUNTS))
    return folder


def test_counts_come_as_the_record_vouches_for_them(tmp_path: Path) -> None:
    counts, ids = with_counts(tmp_path).counts()
    assert counts.dtype == np.int64
    assert counts.shape == (3, 2, 2)
    assert ids == ["a", "b", "c"]


def test_counts_that_the_record_does_not_vouch_for_are_refused(tmp_path: Path) -> None:
    folder = with_counts(tmp_path)
    np.savez_compressed(folder.path / COUNTS, counts=np.zeros((3, 2, 2), np.int32), ids=np.array(["a", "b", "c"]))
    with pytest.raises(UserError, match=r"confusion\.npz does not hold"):
        folder.counts()
    (folder.path / COUNTS).unlink()
    with pytest.raises(UserError, match=r"confusion\.npz does not hold"):
        folder.counts()
    assert folder.finished() is None  # and will be trained again


def test_who_holds_a_run_is_known_and_asking_takes_nothing(folder: RunFolder) -> None:
    assert not folder.is_held()
    with folder.locked():
        assert folder.is_held()
    assert not folder.is_held()
    with folder.locked():
        pass


def test_who_holds_a_run_is_asked_where_the_disk_knows_no_locks(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not folder.is_held()
    with folder.locked():
        assert folder.is_held()
    assert not folder.is_held()


def write_old(folder: RunFolder, **content: Any) -> None:
    """A record as schema 2 wrote it."""
    folder.path.mkdir(parents=True)
    sealed = {"schema": OLD, "key": folder.key, "status": "done", **content}
    checksum = hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()
    (folder.path / "record.json").write_text(json.dumps(sealed | {"checksum": checksum}))


def test_a_record_of_the_old_schema_is_read_and_marked_and_stays_marked_when_it_is_written_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "abc")
    detail = {"radii": [1], "edge": [0.2], "interior": [None], "boundary": 0.1}
    config = {"backbone": {"init": "timm"}, "data": {"name": "things"}}
    write_old(
        folder, label="seb-product", scores=SCORES | {"detail": detail}, choices={"technique/seb": "product"}, config=config
    )
    record = folder.record()
    assert record is not None
    assert (record.old, record.title, record.options, record.weights_name) == (True, "seb-product", {"seb": "product"}, "timm")
    assert record.scores.boundary == BoundaryScores([1], [0.2], [None], 0.1)
    folder.write(record)
    assert folder.record() == record
    leave_record(folder, "done", name="mine", label="seb-product")
    new = folder.record()
    assert new is not None
    assert (new.old, new.title) == (False, "mine")


def test_a_backbone_of_the_old_schema_is_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "abc")
    write_old(
        folder, label="ss", data="objects", classes=["cat"], excludes=["v"], accuracy={"main": 0.5}, sha256="0", gigamacs=1.5
    )
    record = folder.record()
    assert record is not None
    assert record.backbone == BackboneRecord("objects", ["cat"], ["v"], {"main": 0.5}, 1.5, sha256="0")
    assert record.scored is None
    with pytest.raises(ValueError, match="has no scores"):
        _ = record.scores


def test_a_list_of_runs_names_damaged_ones_and_their_size(folder: RunFolder, tmp_path: Path) -> None:
    (folder.path / "checkpoint").write_bytes(b"x" * 1000)
    other = RunFolder(tmp_path, "other")
    other.path.mkdir()
    (other.path / "record.json").write_text("{")
    found = {one.folder.key: one for one in list_runs(tmp_path)}
    assert found["abc"].record == folder.record()
    assert found["abc"].size > 1000
    assert found["other"].record is None
    assert "cut short" in found["other"].damage


def test_a_record_in_another_runs_folder_is_refused(folder: RunFolder) -> None:
    folder.path.rename(folder.root / "other")
    with pytest.raises(UserError, match=r"is the record of abc\. .* rename .*other back to abc"):
        RunFolder(folder.root, "other").record()


def test_a_record_that_nobody_may_read_is_no_damaged_one(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"record\.json cannot be read: Permission denied\. .*mend its permissions"):
        folder.record()


def test_what_is_made_of_a_checkpoint_is_called_by_its_run_and_unless_it_is_the_last_by_its_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "abc")
    folder.checkpoints.mkdir(parents=True)
    names = {str(path): RunFolder.name_of(path) for path in (folder.path, folder.last, folder.checkpoints / "best.ckpt")}
    assert [*names.values()] == ["abc", "abc", "abc_best"]
    assert [RunFolder.name_of(tmp_path / "models" / name) for name in ("seb.ckpt", "last.ckpt")] == ["models_seb", "models"]


def test_a_link_to_a_runs_folder_is_the_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    link = folder.root / "best"
    link.symlink_to(folder.path)
    assert [run.folder.key for run in list_runs(folder.root)] == ["abc"]  # once
    assert find_run("best", folder.root) == find_run(str(link), folder.root) == folder.path.resolve()
    with monkeypatch.context() as inside:
        inside.chdir(folder.root.parent)
        store = Path(folder.root.name)
        assert [run.folder for run in list_runs(store)] == [RunFolder(store, "abc")]
        assert find_run("best", store) == store / "abc"
        inside.chdir(folder.path)
        store = Path("..")
        assert [run.folder.path.resolve() for run in list_runs(store)] == [folder.path.resolve()]
    with monkeypatch.context() as inside:
        inside.chdir(folder.path)
        assert find_run(".", folder.root) == folder.path.resolve()
    elsewhere = folder.root / "elsewhere" / "abc"
    elsewhere.parent.mkdir()
    folder.path.rename(elsewhere)
    folder.path.symlink_to(elsewhere)  # as of a run that was moved to another disk: its lock stays where it was
    assert find_run("abc", folder.root) == folder.path
    assert {run.folder.path for run in list_runs(folder.root)} == {folder.path, elsewhere}
    link.unlink()
    link.symlink_to(elsewhere)
    RunFolder(folder.root, "best").clear()
    assert not link.is_symlink()
    assert not folder.path.exists()


def test_a_record_that_finds_no_space_takes_the_blocks_of_the_one_before(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(key="abc", status="running", config={"recipe": {"epochs": 3, "lr": 0.1}, "data": {"name": "x"}})
    folder.write(record)
    place = (folder.path / "record.json").stat().st_ino

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkstemp", full)
    folder.write(replace(record, status="failed", reason="the disk is full", traceback="x" * 10_000))
    found = folder.record()
    assert found is not None
    assert (found.status, found.why) == ("failed", "the disk is full")
    assert (folder.path / "record.json").stat().st_ino == place
    with pytest.raises(OSError, match="No space"):
        folder.write(replace(record, status="done"))


def test_a_name_that_begins_another_runs_key_is_not_taken_for_it(tmp_path: Path) -> None:
    leave_record(
        RunFolder(tmp_path, "ade0123456789abc"), "done", scores=SCORES, name="baseline", config={"data": {"name": "x"}}
    )
    assert find_run("ade", tmp_path).name == "ade0123456789abc"
    leave_record(RunFolder(tmp_path, "0123456789abcdef"), "done", scores=SCORES, name="ade", config={"data": {"name": "x"}})
    with pytest.raises(UserError, match=r"ade is the name of 2 runs in .*, or begins their keys"):
        find_run("ade", tmp_path)
    assert find_run("ade0", tmp_path).name == "ade0123456789abc"
