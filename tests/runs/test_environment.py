"""What a record says of the code that ran."""

from pathlib import Path

import pytest
import torch

from exfuse.runs import environment

CPU = torch.device("cpu")


def test_the_commit_is_that_of_this_code_wherever_the_process_runs(
    commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.describe_environment(CPU).commit == commit


def test_outside_a_checkout_commit_and_changes_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "environment.py"
    copy.write_text("# installed from a wheel")
    monkeypatch.setattr(environment, "__file__", str(copy))
    described = environment.describe_environment(CPU)
    assert (described.commit, described.uncommitted_changes) == (None, None)


@pytest.mark.parametrize("failing", ["status", "ls-files", "rev-parse"])
def test_what_git_cannot_say_is_unknown(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout, a repository of another owner, a broken index: no such run is called one without changes."""
    said = {"ls-files": "environment.py", "status": "", "rev-parse": "0" * 40}
    monkeypatch.setattr(environment, "_git", lambda verb, *_: None if verb == failing else said[verb])
    described = environment.describe_environment(CPU)
    expected = {"status": ("0" * 40, None), "ls-files": (None, None), "rev-parse": (None, False)}
    assert (described.commit, described.uncommitted_changes) == expected[failing]


def test_without_git_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    described = environment.describe_environment(CPU)
    assert (described.commit, described.uncommitted_changes) == (None, None)
