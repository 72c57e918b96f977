"""Whole sweeps as a user starts them, each training in a process of its own, with Hydra's in-process launcher."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig  # noqa: F401 - registers Hydra's resolvers before configs are composed

from exfuse.store.folder import RunFolder
from tests import entry_points
from tests.pace import patience
from tests.sharing import amount
from tests.small_runs import SMALL

pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The start of a sweep whose files all lie in a folder of the test's own."""
    places = [f"paths.data={tmp_path}/data", f"paths.runs={tmp_path}/runs", f"paths.backbones={tmp_path}/backbones"]
    places += [f"sweep.output={tmp_path}/study", f"hydra.sweep.dir={tmp_path}/sweep"]
    return ["src.train", "-m", *SMALL, *places]


def run(command: list[str], *overrides: str) -> subprocess.CompletedProcess[str]:
    return entry_points.run(*command, *overrides, environment=os.environ | {"COLUMNS": "200"})


def start(command: list[str], *overrides: str) -> entry_points.Started:
    return entry_points.start(*command, *overrides, environment=os.environ | {"COLUMNS": "200"}, merged=True)


def records(runs: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/record.json")}


def running(runs: Path, sweep: entry_points.Started, epoch: bool = True) -> RunFolder:
    """Wait until a run trains, with an epoch behind it."""
    for _ in range(1200):
        for key, record in records(runs).items():
            folder = RunFolder(runs, key)
            if record["status"] == "running" and (folder.last.exists() or not epoch):
                return folder
        assert sweep.poll() is None, sweep.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("nothing was trained in two minutes")


def training_of(folder: RunFolder) -> int:
    """The process that holds a run, found by the open file of its lock."""
    return entry_points.holder(folder.root / f".{folder.key}.lock")


def server_of(worker: int) -> Path:
    """The folder of the server that such a process takes its runs from."""
    environment = dict(line.split("=", 1) for line in Path(f"/proc/{worker}/environ").read_text().split("\0") if "=" in line)
    return Path(environment["EXFUSE_SERVER"]).parent


def workers_of(sweep: int) -> list[int]:
    """The processes by which joblib trains runs side by side."""
    started = [pid for file in Path(f"/proc/{sweep}/task").glob("*/children") for pid in file.read_text().split()]
    return [int(pid) for pid in started if b"popen_loky" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_failing_and_a_killed_run_stop_nobody_and_the_next_start_finishes_what_is_missing(
    command: list[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    # 17 is more than there are images; the run of batch 8 trains until it is killed
    swept = "recipe.batch_size=17,8,4"
    long = [*command, "recipe.epochs=16", "recipe.val_every=16"]
    sweep = start(long, swept)
    folder = running(runs, sweep)
    os.kill(training_of(folder), signal.SIGKILL)
    output, _ = sweep.communicate(timeout=patience(300))
    assert sweep.returncode == 1, output
    by_batch = {record["config"]["recipe"]["batch_size"]: record for record in records(runs).values()}
    assert {batch: record["status"] for batch, record in by_batch.items()} == {17: "failed", 8: "killed", 4: "done"}
    assert "17 is the batch" in by_batch[17]["traceback"] or "recipe.batch_size=17" in by_batch[17]["traceback"]
    assert "SIGKILL" in by_batch[8]["reason"]
    assert "1 failed, 1 killed, 1 done" in output
    assert "recipe.batch_size=17 is more than the 16 images" in output
    assert "signal 9" in output

    before = (runs / by_batch[4]["key"] / "record.json").stat().st_mtime_ns
    again = run([*long, "sweep.parallel=2"], "recipe.batch_size=8,4")  # of which one is left
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 done, 1 skipped" in again.stdout
    assert "Going on with" in again.stdout  # from its last epoch, not from the start
    assert (runs / by_batch[4]["key"] / "record.json").stat().st_mtime_ns == before


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("kind", "parallel"),
    amount(
        [(signal.SIGINT, 1), (signal.SIGKILL, 2)],
        [(kind, parallel) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL) for parallel in (1, 2)],
    ),
)
def test_when_the_sweep_ends_so_does_its_training_and_loses_at_most_an_epoch(
    command: list[str], tmp_path: Path, kind: signal.Signals, parallel: int
) -> None:
    runs = tmp_path / "runs"
    sweep = start([*command, "recipe.epochs=400", f"sweep.parallel={parallel}"], "seed=0,1,2")
    folder = running(runs, sweep)
    process = training_of(folder)
    workers = workers_of(sweep.pid)
    assert bool(workers) == (parallel > 1)
    servers = {*map(server_of, workers)}
    assert len(servers) == (parallel > 1)
    assert all(folder.is_dir() for folder in servers)
    sweep.send_signal(kind)
    output, _ = sweep.communicate(timeout=patience(120))
    assert entry_points.ends(process), "the training outlived its sweep"
    assert all(map(entry_points.ends, workers)), "what trained outlived its sweep"
    for left in servers:  # the server removes it when it ends
        for _ in range(int(patience(100))):
            if not left.exists():
                break
            time.sleep(0.1)
        assert not left.exists(), "the server outlived its sweep"
    assert folder.last.exists()
    record = folder.record()
    assert record is not None
    assert record.status == "interrupted"
    if parallel == 1:
        assert len(records(runs)) == 1  # the second run was never started
    if kind != signal.SIGKILL and parallel > 1:
        assert "1 waiting" in output  # whose turn had not come
        assert "job_2.log" not in output
    if kind == signal.SIGINT:
        assert sweep.returncode == 130
        assert "The same command goes on" in output
        assert f"{parallel} interrupted" in output


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_run_that_was_killed_alone_ends_beside_others_with_the_same_bits(command: list[str], tmp_path: Path) -> None:
    alone = [word for word in command if word != "-m" and not word.startswith(("hydra.", "sweep."))]
    short = ["recipe.epochs=6", "seed=0"]
    other = [word.replace(f"{tmp_path}/runs", f"{tmp_path}/whole") for word in alone]
    assert run(other, *short).returncode == 0
    training = start(alone, *short)
    folder = running(tmp_path / "runs", training)
    os.kill(training_of(folder), signal.SIGKILL)
    training.communicate(timeout=patience(60))
    beside = run([*command, "sweep.parallel=2"], "recipe.epochs=6", "seed=0,1")
    assert beside.returncode == 0, beside.stdout + beside.stderr
    assert "seed 1" in beside.stdout  # a line for each run, as there is no terminal
    whole, killed = (
        torch.load(tmp_path / runs / folder.key / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for runs in ("whole", "runs")
    )
    assert all(torch.equal(value, killed[name]) for name, value in whole.items())
    assert {record["status"] for record in records(tmp_path / "runs").values()} == {"done"}


def test_two_sweeps_on_one_store_share_the_work_and_train_nothing_twice(command: list[str], tmp_path: Path) -> None:
    other = [part.replace(f"{tmp_path}/sweep", f"{tmp_path}/sweep2").replace("/study", "/study2") for part in command]
    sweeps = [start([*one, "recipe.epochs=3"], "seed=0,1") for one in (command, other)]
    outputs = [sweep.communicate(timeout=patience(300))[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    found = records(tmp_path / "runs")
    assert [record["status"] for record in found.values()] == ["done"] * 2
    for key in found:  # one start each
        assert [path.name for path in (tmp_path / "runs" / key / "logs").iterdir()] == ["version_0"]
    study, study2 = (json.loads((tmp_path / name / "study.json").read_text()) for name in ("study", "study2"))
    assert study["rows"] == study2["rows"]
    assert study["rows"][0]["runs"].keys() == {"0", "1"}


def test_a_sweep_that_cannot_be_planned_says_why_and_fails(command: list[str], tmp_path: Path) -> None:
    own = [part for part in command if not part.startswith("data.")]
    done = run(own, "data=voc", "data.root=/no/such/folder", "seed=0,1")
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    assert "/no/such/folder" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "study").exists()


def test_tabulating_alone_starts_nothing(command: list[str], tmp_path: Path) -> None:
    done = run(command, "sweep.missing=skip", "+ablation=baseline,seb")
    assert done.returncode == 1
    assert "2 missing" in done.stdout
    assert not records(tmp_path / "runs")
    assert "missing" in (tmp_path / "study" / "table.md").read_text()


def test_a_word_that_is_no_choice_starts_nothing(command: list[str], tmp_path: Path) -> None:
    done = run(command, "sweep.missing=skp", "seed=0,1")
    assert done.returncode == 1
    assert "sweep.missing=skp: expected train or skip" in done.stderr
    assert not records(tmp_path / "runs")
