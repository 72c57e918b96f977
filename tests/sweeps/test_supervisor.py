"""What the supervisor of one run does where another process has it."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from exfuse.errors import HELD
from exfuse.runs.child import Ended
from exfuse.runs.known import find_known, is_finished
from exfuse.store.description import RunDescription
from exfuse.store.folder import COUNTS, RunFolder
from exfuse.store.outcome import BUSY, Outcome, RunProgress
from exfuse.store.record import DONE, FAILED, INTERRUPTED
from exfuse.sweeps import supervisor
from exfuse.sweeps.supervisor import _always_written, _bring_to_an_end, _patience, judge
from tests.pace import patience
from tests.records import SCORES, leave_record


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_another_process_trains_is_trained_anew_once_that_has_ended(
    overwrite: bool, compose_config: Callable[..., RunDescription], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "runs", "0123456789abcdef")
    held, let_go, starts = threading.Event(), threading.Event(), list[bool]()

    def train_elsewhere() -> None:
        with folder.locked(on_wait=lambda: None):
            held.set()
            let_go.wait(patience(30))

    def child(*_: object, **__: object) -> Ended:
        starts.append(folder.is_held())
        if starts[-1]:
            threading.Timer(0.2, let_go.set).start()
        return Ended(HELD if starts[-1] else 1, "it was started", interrupted=False)

    monkeypatch.setattr(supervisor, "run_child", child)
    other = threading.Thread(target=train_elsewhere)
    other.start()
    assert held.wait(patience(30))
    described = replace(compose_config(), overwrite=overwrite)
    outcome = Outcome(0, [], "baseline", 0, {}, key=folder.key)
    try:
        _bring_to_an_end(described, folder, outcome, None, tmp_path)
    finally:
        let_go.set()
        other.join()
    assert starts == ([True, False] if overwrite else [])  # it waits for the other's end, and starts then
    assert outcome.status == (FAILED if overwrite else BUSY)


def test_a_run_that_turned_out_another_is_none_that_failed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "0123456789abcdef")
    ended = Ended(0, "", interrupted=False)
    status, reason = judge(folder, ended)
    assert status == INTERRUPTED
    assert "it made another run" in reason
    leave_record(folder, DONE)
    (folder.path / COUNTS).touch()
    assert judge(folder, ended) == (DONE, "")


def test_what_a_search_has_is_known_by_its_record_alone(compose_config: Callable[..., RunDescription], tmp_path: Path) -> None:
    """Such as a run with all of train that diverged and was passed over."""
    described, folder = compose_config(f"sweep.known={tmp_path}"), RunFolder(tmp_path / "runs", "0123456789abcdef")
    (tmp_path / "records").mkdir()
    assert find_known(described, folder) is folder
    leave_record(RunFolder(tmp_path / "search", folder.key), DONE, scores=SCORES)
    found = find_known(described, folder)
    assert (found.root, is_finished(described, found)) == (tmp_path / "search", True)
    leave_record(RunFolder(tmp_path / "runs", folder.key), DONE, scores=SCORES)  # whose counts are gone
    assert not is_finished(described, folder)


def test_a_disk_that_is_full_for_a_moment_costs_a_line_of_progress_and_no_run(
    compose_config: Callable[..., RunDescription], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Outcome, "write", full)
    outcome = Outcome(0, [], "baseline", 0, {}, str(tmp_path), "0123456789abcdef", "started")
    patience = _patience(compose_config(), outcome, tmp_path)
    patience.hear('{"epoch": 1, "ep')  # half a word, for want of space
    patience.hear(msgspec.json.encode(RunProgress(1, 3)).decode())
    patience.say("no progress")
    with _always_written(outcome, tmp_path, 0.0):
        outcome.status = DONE
    assert (outcome.progress, outcome.status) == (RunProgress(1, 3), DONE)
    assert "cannot be written (No space left on device); the run goes on." in capsys.readouterr().err
