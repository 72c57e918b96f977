import math
from pathlib import Path

import pytest

from exfuse.errors import UserError
from exfuse.store.history import curve, merge_logs, metrics, read_history, read_log, write_history


def write_log(run: Path, version: int, *lines: str) -> None:
    path = run / "logs" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(["epoch,step,train/loss,val/miou", *lines, ""]))


def test_lines_of_one_step_become_one(tmp_path):
    write_log(tmp_path, 0, "0,9,2.0,", "0,9,,0.25", "1,19,1.5,")
    assert merge_logs(tmp_path) == {9: {"epoch": 0, "train/loss": 2.0, "val/miou": 0.25}, 19: {"epoch": 1, "train/loss": 1.5}}


def test_a_resumed_run_forgets_what_it_trained_again(tmp_path):
    """Killed at step 39, gone on from the checkpoint at 19, killed at once, gone on from there; 10 comes after 9."""
    write_log(tmp_path, 0, "0,9,2.0,", "0,19,1.9,0.1", "1,29,1.8,", "1,39,1.7,0.2", "1,45,9.9,")
    write_log(tmp_path, 9, "1,29,1.6,", "1,39,1.5,0.3")
    write_log(tmp_path, 10)
    write_log(tmp_path, 11, "2,49,1.4,")
    merged = merge_logs(tmp_path)
    assert {step: values["train/loss"] for step, values in merged.items()} == {9: 2.0, 19: 1.9, 29: 1.6, 39: 1.5, 49: 1.4}
    assert curve(merged, "val/miou") == [(19, 0.1), (39, 0.3)]


def test_a_run_without_logs_has_no_history(tmp_path):
    assert merge_logs(tmp_path) == {}


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    write_log(tmp_path, 0, "0,9,2.0,0.5")
    path = tmp_path / "logs" / "version_0" / "metrics.csv"
    path.write_text(path.read_text() + "1,19")
    assert merge_logs(tmp_path) == {9: {"epoch": 0, "train/loss": 2.0, "val/miou": 0.5}}


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "step,x\none,2\n", "step,x\n1,two\n", "step,x\n1\n2,3\n"])
def test_a_file_that_is_no_log_is_refused_by_name(tmp_path, text):
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"history\.csv is not a log of metrics"):
        read_log(path)


def test_what_is_written_is_read_back(tmp_path):
    history = {9: {"epoch": 0.0, "train/loss": 2.0 / 3}, 19: {"epoch": 1.0, "val/miou": 0.125, "train/loss": math.nan}}
    path = tmp_path / "history.csv"
    assert write_history(path, history)
    assert not write_history(path, history)  # nothing new
    read = read_history(path)
    assert read[9] == pytest.approx(history[9], rel=1e-6)
    assert curve(read, "train/loss") == [(9, pytest.approx(2.0 / 3, rel=1e-6))]  # a loss that is no number is no point
    assert metrics([read]) == ["train/loss", "val/miou"]
