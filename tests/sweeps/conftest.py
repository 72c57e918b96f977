"""A sweep of three small runs on a real launcher: one is sound, one raises, one is killed while it trains."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exfuse.runs.plan import plan_run
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from tests.conftest import REPOSITORY
from tests.pace import patience
from tests.sharing import amount
from tests.small_runs import SMALL

SOUND, RAISES, KILLED = 0, 1, 2  # seeds
_SECONDS = patience(300)  # more than any of these sweeps takes, on a busy machine too


@dataclass
class Sweeps:
    """Start the same sweep over three seeds again and again, as a user does, and look at what it leaves.

    Attributes:
        folder: everything is in it.
        settings: overrides of every run.
        runs: the run of each seed.
        started: every sweep that was started.
    """

    folder: Path
    settings: list[str]
    runs: dict[int, RunFolder]
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, launcher: list[str], environment: dict[str, str], seeds: Iterable[int]) -> "subprocess.Popen[str]":
        """Start ``python -m src.train -m``; its standard error goes where its standard output goes."""
        sweep = self.folder / f"sweep_{len(self.started)}"
        command = [sys.executable, "-m", "src.train", "-m", *self.settings, f"seed={','.join(map(str, seeds))}", *launcher]
        command += [f"hydra.sweep.dir={sweep}", f"sweep.output={self.folder}/study"]
        environment = {**environment, "COLUMNS": "400"}  # reasons stand on one line
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.started.append(process)
        return process

    def finish(self, sweep: "subprocess.Popen[str]") -> str:
        """Wait for a sweep's end; what it printed."""
        output, _ = sweep.communicate(timeout=_SECONDS)
        print(output)  # pytest shows it if the test fails
        return output

    def trainings(self) -> dict[int, list[str]]:
        """Command lines of the trainings that run at this moment, by process id; supervisors and sweeps left out."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:  # it has just ended
                continue
            if "hydra.mode=RUN" in words and words[1:4] == ["-m", "exfuse", "train"] and self.settings[-1] in words:
                found[int(entry.name)] = words
        return found

    def kill_while_it_trains(self, seed: int, sweep: "subprocess.Popen[str]") -> dict[str, str]:
        """SIGKILL a run's training as soon as its first epoch is saved; the environment that it had."""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and sweep.poll() is None:
            if self.runs[seed].last.exists():
                (process,) = (process for process, words in self.trainings().items() if f"seed={seed}" in words)
                lines = Path(f"/proc/{process}/environ").read_text().split("\0")
                os.kill(process, signal.SIGKILL)
                return dict(line.split("=", 1) for line in lines if "=" in line)
            time.sleep(0.02)
        if sweep.poll() is None:
            sweep.terminate()
        raise AssertionError(f"seed {seed} never saved an epoch:\n{sweep.communicate(timeout=patience(20))[0]}")

    def close(self) -> None:
        """End whatever a failed test has left running."""
        for sweep in self.started:
            if sweep.poll() is None:
                sweep.terminate()
                try:
                    sweep.communicate(timeout=patience(20))
                except subprocess.TimeoutExpired:
                    sweep.kill()
                    sweep.communicate()
        for process in self.trainings():
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def sweeps(tmp_path: Path, compose_config: Callable[..., RunDescription]) -> Iterator[Sweeps]:
    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc here, by which the test finds the training to kill")
    # enough epochs that the one to be killed is still at it after its first
    settings = [*SMALL, "recipe.epochs=4", f"data.root={tmp_path}/scenes", f"paths.runs={tmp_path}/runs"]
    seeds = (SOUND, RAISES, KILLED)
    runs = {seed: plan_run(compose_config(*settings, f"seed={seed}")).folder for seed in seeds}
    sweeps = Sweeps(tmp_path, settings, runs)
    try:
        yield sweeps
    finally:
        sweeps.close()


@pytest.fixture
def check_launcher(sweeps: Sweeps) -> Callable[[list[str], list[str], dict[str, str]], dict[str, str]]:
    """Check that a sweep outlives a run that raises and one that is killed, and that a second start does what is missing.

    The arguments are the overrides that choose the launcher of either start, and the environment of both; it returns the
    environment of the training that was killed.
    """

    def checked(first: list[str], second: list[str], environment: dict[str, str]) -> dict[str, str]:
        damaged = sweeps.runs[RAISES].last
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(b"half a checkpoint")
        sweep = sweeps.start(first, environment, sweeps.runs)
        of_training = sweeps.kill_while_it_trains(KILLED, sweep)
        told = sweeps.finish(sweep)
        assert sweep.returncode == 1
        assert "last.ckpt is damaged or unsealed" in told
        assert "SIGKILL" in told
        assert [_status(sweeps.runs[seed]) for seed in (SOUND, RAISES, KILLED)] == ["done", "failed", "killed"]
        assert not sweeps.trainings()

        damaged.unlink()
        before = _times(sweeps.runs[SOUND].path)
        again = amount((SOUND, KILLED), (SOUND, RAISES, KILLED))  # what raised trains as any other run does
        sweep = sweeps.start(second, environment, again)
        told = sweeps.finish(sweep)
        assert sweep.returncode == 0, told
        assert {_status(sweeps.runs[seed]) for seed in again} == {"done"}
        assert _times(sweeps.runs[SOUND].path) == before
        went_on = _epochs(sweeps.runs[KILLED], "version_1")
        assert "3" in went_on
        assert "0" not in went_on  # it had been saved
        return of_training

    return checked


def _status(run: RunFolder) -> str:
    record = run.record()
    assert record is not None
    return record.status


def _epochs(run: RunFolder, start: str) -> set[str]:
    """Numbers of the epochs that the logger of one of the run's starts saw."""
    header, *rows = (run.path / "logs" / start / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("epoch")
    return {row.split(",")[column] for row in rows}


def _times(folder: Path) -> dict[Path, int]:
    """When each file below a folder was written, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
