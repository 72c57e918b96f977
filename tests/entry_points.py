"""Start an entry point in a process of its own, as ``python -m src.train ...`` does, without importing torch anew each time.

Importing torch, Lightning and what they bring takes longer than any of these tests' trainings. Here one server process of
multiprocessing imports those libraries and this project once and every start is a fork of it: a process with its own id,
signals, environment and output, which parses its arguments and ends by itself. What such a process starts in its turn with
``[sys.executable, "-m", ...]`` (the trainings of a sweep, the second process of DDP) is its real child, with its pipes, its
session and its place in /proc, forked from it in the same way, but imports this project anew: its parent has used it. What is
about the interpreter's own start, about what it imports, or about launchers is tested with ``subprocess`` as ever.
"""

import atexit
import inspect
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.pace import patience

REPOSITORY = Path(__file__).resolve().parent.parent
# read by albumentations on import: it would ask the network for a newer release
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
SERVER = multiprocessing.get_context("forkserver")
# Libraries, and of this project what most entry points load: half a second of each start.
SERVER.set_forkserver_preload(
    [
        *(
            "pytorch_lightning",
            "torchmetrics",
            "timm",
            "albumentations",
            "matplotlib.pyplot",
            "matplotlib.backends.backend_agg",
        ),
        *("scipy.stats", "hydra", "rich.console", "msgspec", "pytest"),
        *("exfuse.cli.running", "exfuse.runs.training", "exfuse.runs.evaluation", "exfuse.analysis.rendering"),
        *("exfuse.sweeps.session", "exfuse.sweeps.supervisor", "tests.preloaded"),
    ]
)
_SHARED = "EXFUSE_TEST_SERVER"  # environment variable: the socket of the one that the workers of pytest-xdist share


def share_server() -> None:
    """Let the processes that this one starts from now on fork from one server, which ends with this process."""
    forkserver.ensure_running()
    os.environ[_SHARED] = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]


if _SHARED in os.environ:
    forkserver._forkserver._forkserver_address = os.environ[_SHARED]  # type: ignore[attr-defined]
    forkserver._forkserver._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)  # type: ignore[attr-defined]
    forkserver._forkserver.ensure_running = resource_tracker.ensure_running  # type: ignore[attr-defined]

OURS = ("src", "exfuse")
_ANEW = (*OURS, "hydra", "hydra_plugins", "omegaconf")  # what a child's child imports itself: they keep what its parent did
_SECONDS = patience(300)  # more than anything that a test starts takes, on a busy machine too


class Started:
    """A running entry point; the interface is that part of `subprocess.Popen` which tests use, with text alone."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None, folder: Path, merged: bool, given: str
    ) -> None:
        self.args = list(arguments)
        self._folder = tempfile.TemporaryDirectory(prefix="entry-point-")
        self._output, self._errors, source = (Path(self._folder.name) / name for name in ("output", "errors", "input"))
        for path in (self._output, self._errors):
            path.touch()
        source.write_text(given)
        streams = (source, self._output, self._output if merged else self._errors)
        environment = dict(os.environ if environment is None else environment)
        self._process: ForkServerProcess = SERVER.Process(target=_serve, args=(self.args, environment, folder, streams))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = _SECONDS) -> int:
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

    def communicate(self, timeout: float | None = _SECONDS) -> tuple[str, str]:
        """Wait for its end; what it printed, and what it complained of."""
        self.wait(timeout)
        return self._output.read_text(), self._errors.read_text()

    def completed(self, timeout: float | None = _SECONDS) -> "subprocess.CompletedProcess[str]":
        """Wait for its end, like `subprocess.run`."""
        status = self.wait(timeout)
        return subprocess.CompletedProcess(self.args, status, self._output.read_text(), self._errors.read_text())


def start(
    module: str,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    folder: Path = REPOSITORY,
    merged: bool = False,
    given: str = "",
) -> Started:
    """Start ``python -m module arguments``.

    Args:
        module: an entry point, such as ``src.train``.
        arguments: its overrides.
        environment: in place of this process's.
        folder: where it runs.
        merged: write its errors where its output goes.
        given: its standard input.
    """
    return Started([module, *map(str, arguments)], environment, folder, merged, given)


def run(module: str, *arguments: object, timeout: float = _SECONDS, **settings: Any) -> "subprocess.CompletedProcess[str]":
    """Start ``python -m module arguments`` as `start` does, and wait for its end."""
    return start(module, *arguments, **settings).completed(timeout)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork what code in this process starts with ``subprocess.run([sys.executable, "-m", ...])``, and pretrainings."""
    from exfuse.config import search_path
    from exfuse.runs.child import Ended

    usual = subprocess.run

    def run_child(verb: str, overrides: Sequence[str], **_: object) -> Ended:
        done = run("exfuse", verb, *search_path.arguments(), *overrides, "hydra.mode=RUN", folder=Path.cwd())
        print(done.stdout, done.stderr)
        return Ended(done.returncode, done.stderr, False)

    def run_forked(command: Any, *more: Any, **settings: Any) -> "subprocess.CompletedProcess[Any]":
        if isinstance(command, str) or not _is_ours([os.fsdecode(word) for word in command]):
            return usual(command, *more, **settings)
        where = {"environment": settings.get("env"), "folder": settings.get("cwd") or Path.cwd()}
        done = run(*command[2:], **where, given=settings.get("input") or "")
        print(done.stdout, done.stderr)  # pytest shows it if the test fails
        if settings.get("check"):
            done.check_returncode()
        return done

    monkeypatch.setattr(subprocess, "run", run_forked)
    monkeypatch.setattr("exfuse.runs.backbones.run_child", run_child)


def holder(lock: Path) -> int:
    """The process that has this file open, such as a run's lock while it is trained.

    Raises:
        AssertionError: if there is none within ten seconds.
    """
    lock = lock.resolve()
    for _ in range(int(patience(100))):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if any(link.resolve() == lock for link in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:  # it has just ended, or is another user's
                continue
        time.sleep(0.1)
    raise AssertionError(f"nobody holds {lock}")


def ends(process: int, seconds: float = patience(60)) -> bool:
    """Whether a process, which need not be a child of this one, ends in time."""
    for _ in range(int(seconds * 10)):
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.1)
    return False


def _serve(command: list[str], environment: dict[str, str], folder: Path, streams: tuple[Path, Path, Path]) -> NoReturn:
    """A fork of the server: the entry point that a test has started."""
    for stream, path in enumerate(streams):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND if stream else os.O_RDONLY)
        os.dup2(opened, stream)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has replaced it
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell lets its background jobs ignore, tests among them
    subprocess.Popen = _Forking  # type: ignore[misc]
    _become(command, environment, folder)


class _Forking(subprocess.Popen):  # type: ignore[type-arg]
    """A `subprocess.Popen` that forks this process instead of starting an interpreter for an entry point of this project."""

    def _execute_child(self, *given: Any) -> None:
        execute = super()._execute_child  # type: ignore[misc]
        asked = inspect.signature(execute).bind(*given).arguments
        command = asked["args"]
        if isinstance(command, str | os.PathLike) or asked["shell"] or not _is_ours([os.fsdecode(one) for one in command]):
            execute(*given)
            return
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _take_the_place(asked)
                environment = os.environ if asked["env"] is None else asked["env"]
                _become([os.fsdecode(one) for one in command[2:]], dict(environment), asked["cwd"])
            finally:  # not even an error of the above may go on in the parent's place
                os._exit(120)
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[name] for name in pipes))  # type: ignore[attr-defined]


def _is_ours(command: list[str]) -> bool:
    return len(command) > 2 and command[:2] == [sys.executable, "-m"] and command[2].split(".")[0] in OURS


def _take_the_place(asked: dict[str, Any]) -> None:
    """What the system does between fork and exec: streams, session, signals, and none of the parent's open files."""
    sources = [os.dup(one) if one != -1 else None for one in (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])]
    for stream, source in enumerate(sources):
        if source is not None:
            os.dup2(source, stream)
    os.closerange(3, 4096)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if asked["start_new_session"]:
        os.setsid()
    if asked["preexec_fn"] is not None:
        asked["preexec_fn"]()
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as a starting interpreter does
    resource_tracker._resource_tracker = resource_tracker.ResourceTracker()  # the other's pipe is closed
    for name in ("ensure_running", "register", "unregister", "getfd"):
        setattr(resource_tracker, name, getattr(resource_tracker._resource_tracker, name))
    for name in [name for name in sys.modules if name.partition(".")[0] in _ANEW]:
        del sys.modules[name]


def _become(command: list[str], environment: dict[str, str], folder: os.PathLike[str] | str | None) -> NoReturn:
    """Run a module as the program of this process and end as an interpreter ends."""
    atexit._clear()  # what others would do at their own end
    multiprocessing.set_start_method(None, force=True)  # of its own loader workers: what a fresh interpreter has
    os.environ.clear()
    os.environ.update(environment)
    from lightning_fabric.utilities.rank_zero import _get_rank, rank_zero_only

    rank_zero_only.rank = _get_rank() or 0  # read from the environment when Lightning was loaded
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:0] = paths
    if folder is not None:
        os.chdir(folder)
    sys.argv = list(command)
    status: int = 0
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as left:
        if isinstance(left.code, int):
            status = left.code
        elif left.code is not None:
            print(left.code, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
