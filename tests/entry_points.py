"""Start an entry point in a process of its own, as ``python -m src.train ...`` does, without importing torch anew each time.

Importing torch, Lightning and what they bring takes longer than any of these tests' trainings. Here one server process of
multiprocessing imports those libraries once and every start is a fork of it: a process with its own id, signals, environment
and output, which imports this project anew, parses its arguments and ends by itself. What is about the interpreter's own
start or about launchers is tested with ``sys.executable`` as ever.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.conftest import REPOSITORY

# read by albumentations on import: it would ask the network for a newer release
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
SERVER = multiprocessing.get_context("forkserver")
# third parties alone: this project's own modules are those of the folder that the test runs in
SERVER.set_forkserver_preload(["pytorch_lightning", "torchmetrics", "timm", "albumentations", "matplotlib.pyplot", "hydra"])


class Started:
    """A running entry point; the interface is that part of `subprocess.Popen` which tests use."""

    def __init__(self, module: str, overrides: list[str], environment: Mapping[str, str] | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="entry-point-")
        self._output, self._errors = (Path(self._folder.name) / name for name in ("output", "errors"))
        self._output.touch()
        self._errors.touch()
        arguments = (module, overrides, dict(os.environ if environment is None else environment), self._output, self._errors)
        self._process: ForkServerProcess = SERVER.Process(target=_run, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status.

        Raises:
            TimeoutError: if it still runs after ``timeout`` seconds; it is then killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"still running after {timeout} s:\n{self.told()}")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def told(self) -> str:
        """What it has printed so far, errors last."""
        return self._output.read_text() + self._errors.read_text()

    def completed(self, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Wait for its end, like `subprocess.run`."""
        status = self.wait(timeout)
        return subprocess.CompletedProcess([], status, self._output.read_text(), self._errors.read_text())


def start(module: str, *overrides: str, environment: Mapping[str, str] | None = None) -> Started:
    """Start ``python -m module overrides`` in the repository.

    Args:
        module: an entry point, such as ``src.train``.
        overrides: its arguments.
        environment: in place of this process's.
    """
    return Started(module, [str(override) for override in overrides], environment)


def _run(module: str, overrides: list[str], environment: dict[str, str], output: Path, errors: Path) -> None:
    atexit._clear()  # what the server's libraries would do at the server's own end
    multiprocessing.set_start_method(None, force=True)  # of its own loader workers: what a fresh interpreter has
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(REPOSITORY)
    for stream, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream)
    sys.argv = [module, *overrides]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without
