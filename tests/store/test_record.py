"""Records: whole, unaltered and of this schema, or refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfuse.errors import UserError
from exfuse.store.folder import COUNTS, RunFolder
from exfuse.store.record import OLD, SCHEMA
from tests.records import SCORES, leave_record

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5)


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


@given(content=st.dictionaries(st.text(min_size=1), JSON))
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
        ({"key": "other"}, "calls itself other"),
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
