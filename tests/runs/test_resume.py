"""A run that was killed and resumed ends with the very weights of one that never was."""

import json
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.entry_points import Started, start as start_entry_point
from tests.pace import patience
from tests.sharing import amount
from tests.small_runs import only_run

# Long enough epochs (16 steps) to be hit in the middle.
LONGER = [
    "data.images.train=32",
    "recipe.batch_size=2",
    "recipe.epochs=4",
    "runtime.workers=2",
    "recipe.schedule.warmup_steps=20",
]
VARIANTS = [
    ["+architecture=aspp_os16", "decoder.hidden=16"],
    ["+ablation=seb_ecre", "recipe.ema_decay=0.9", "loss=sum"],
]  # the former with dropout, whose random numbers must go on too


def start(overrides: list[str], runs: Path) -> Started:
    return start_entry_point("src.train", *overrides, f"paths.runs={runs}")


@pytest.mark.slow
@pytest.mark.parametrize("after", amount([0.3], [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.2]))
@pytest.mark.parametrize("variant", amount(VARIANTS[:1], VARIANTS), ids=lambda overrides: overrides[0])
def test_sigkill_in_mid_epoch_and_resume_change_no_bit(
    small_overrides: list[str], tmp_path: Path, variant: list[str], after: float
) -> None:
    # a data folder of its own: the number of images differs from the other tests'
    overrides = [*small_overrides, f"data.root={tmp_path / 'scenes'}", *LONGER, *variant]
    assert start(overrides, tmp_path / "whole").wait() == 0
    whole = only_run(tmp_path / "whole")

    process = start(overrides, tmp_path / "killed")
    deadline = time.monotonic() + patience(120)
    while not list((tmp_path / "killed").glob("*/checkpoints/last.ckpt")):
        assert process.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(after)  # some steps into the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = only_run(tmp_path / "killed")
    assert json.loads((killed.path / "record.json").read_text())["status"] == "running"
    assert 0 < torch.load(killed.last, weights_only=True)["global_step"] < 4 * 16

    assert start(overrides, tmp_path / "killed").wait() == 0
    resumed, uninterrupted = (torch.load(run.last, weights_only=True) for run in (killed, whole))
    assert killed.key == whole.key
    assert resumed["global_step"] == uninterrupted["global_step"] == 4 * 16
    for name, value in uninterrupted["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name
    ends = [json.loads((run.path / "record.json").read_text()) for run in (killed, whole)]
    assert ends[0]["scores"] == ends[1]["scores"]
    assert ends[0]["health"] == ends[1]["health"]
    assert ends[0]["health"]["highest_loss"] > 0
    assert ("res2" in ends[0]["health"].get("correlations", {})) == ("+ablation=seb_ecre" in variant)


@pytest.mark.slow
def test_ctrl_c_is_recorded_and_exits_with_130(small_overrides: list[str], tmp_path: Path) -> None:
    # on a busy machine a short run would end before the signal is sent
    overrides = [*small_overrides, f"data.root={tmp_path / 'scenes'}", *LONGER, "recipe.epochs=400"]
    process = start(overrides, tmp_path / "runs")
    deadline = time.monotonic() + patience(120)
    while not list((tmp_path / "runs").glob("*/checkpoints/last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    record = only_run(tmp_path / "runs").record()
    assert record is not None
    assert record.status == "interrupted"


@pytest.mark.slow
def test_two_cpu_processes_share_one_run_and_count_every_image_once(small_overrides: list[str], tmp_path: Path) -> None:
    overrides = [*small_overrides, "trainer=ddp_cpu", "trainer.enable_progress_bar=false", "recipe.epochs=1"]
    assert start(overrides, tmp_path / "runs").wait() == 0
    record = only_run(tmp_path / "runs").record()
    assert record is not None
    assert record.status == "done"
    assert record.scores.images == 5
