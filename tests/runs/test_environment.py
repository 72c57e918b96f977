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
