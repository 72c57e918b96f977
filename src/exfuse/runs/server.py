"""A process that has imported what a training needs and forks itself for each run of a sweep, which starts in a second.

It imports and does nothing else: no thread of OpenMP and no GPU is in use when it forks, and every run is a process of its own,
with its session, signals, environment, folder and streams. It ends when the process that asked for it does, its runs with it.

Where runs are trained side by side, what starts them shares one server: it forks itself for each that connects, and such a fork
is what a server of its own would be, without the seconds and the memory of the imports.
"""

import contextlib
import gc
import hashlib
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

# Imported by name: they lie above this package. What a training would import only after its start stands here too.
_LIBRARIES = (
    *("exfuse.cli.running", "exfuse.cli.training", "exfuse.runs.training", "exfuse.runs.pretraining"),
    *("hydra_plugins", "pytorch_lightning.loggers", "torch.optim", "torch.utils.flop_counter"),
)
_LOOKS = 0.1  # seconds between two looks for children that ended
_ACCEPTS = "accepts"  # a word of the server's own command line: it is shared
_INTERRUPTED = 130  # exit status of a run that ends at its last saved epoch
SHARED = "EXFUSE_SERVER"  # environment variable: the socket of the server that this process's parent shares


class Server:
    """The client's side; one process has one at a time: a fork of the one that its parent shares, or one of its own.

    Args:
        environment: that the libraries are imported with.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment, self.code = dict(environment), code_of_package()
        shared = os.environ.get(SHARED)
        if shared and (connection := _connected(shared, self.code)):
            self.connection = connection
        else:
            self.connection, theirs = socket.socketpair()
            with theirs:
                self.process = _started(theirs, self.environment)  # kept: it is this one's child

    def start(self, words: Sequence[str], environment: Mapping[str, str], output: int) -> "Forked":
        """``python -m exfuse WORDS``, forked.

        Args:
            words: of the command line.
            environment: all of it.
            output: file descriptor of what it prints.

        Raises:
            ChildProcessError: if the server does not answer; it is then ended.
        """
        errors, errors_in = os.pipe()
        status, status_in = os.pipe()
        request = {"words": [*words], "environment": dict(environment), "folder": os.getcwd()}  # noqa: PTH109
        try:
            content = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(self.connection, [content], [output, errors_in, status_in])
            self.connection.sendall(content[sent:])
            os.close(status_in)
            os.close(errors_in)
            forked = Forked(status, errors)
        except BaseException:  # nobody would wait for what it forks now
            self.connection.close()
            raise
        if forked.pid == 0:
            raise ChildProcessError("the process that forks runs ended before it started one")
        return forked

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether it runs, in this environment, the code that lies there now: a record says which commit was run."""
        ended = self.connection.fileno() < 0 or select.select([self.connection], [], [], 0)[0]  # it says nothing but its end
        return not ended and self.environment == environment and self.code == code_of_package()


def start_shared(environment: Mapping[str, str]) -> None:
    """Start the server that the processes which this one starts from now on share, if there is none that fits.

    It ends with this process, and its forks with those that are connected to them. Where there can be none, each has its own.
    """
    global _shared
    code = code_of_package()
    if _shared is None or not (_shared.process.poll() is None and _shared.code == code and _shared.environment == environment):
        if _shared is not None:
            _shared.process.terminate()
            _shared.folder.cleanup()
        # nobody else may enter it; the server removes it if this process is killed
        folder = tempfile.TemporaryDirectory(prefix="exfuse-server-", ignore_cleanup_errors=True)
        path = f"{folder.name}/socket"
        with socket.socket(socket.AF_UNIX) as listening:
            try:
                listening.bind(path)
            except OSError:  # its path is too long: the system allows a hundred characters
                folder.cleanup()
                os.environ.pop(SHARED, None)
                return
            listening.listen()
            _shared = _Shared(_started(listening, environment, _ACCEPTS), folder, code, dict(environment))
    os.environ[SHARED] = f"{_shared.folder.name}/socket"


class _Shared(NamedTuple):
    process: "subprocess.Popen[bytes]"
    folder: "tempfile.TemporaryDirectory[str]"
    code: str
    environment: dict[str, str]


_shared: _Shared | None = None


def _started(connection: socket.socket, environment: Mapping[str, str], *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "exfuse.runs.server", str(os.getpid()), *more]
    silent = subprocess.DEVNULL  # its runs are given theirs
    return subprocess.Popen(command, env=environment, stdin=connection.fileno(), stdout=silent, start_new_session=True)


def _connected(path: str, code: str) -> socket.socket | None:
    """A connection to the server that is shared there, once it has its imports; None if it is no more or runs other code."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        if connection.recv(len(code), socket.MSG_WAITALL) == code.encode():
            return connection
    except OSError:
        pass
    connection.close()
    return None


def code_of_package() -> str:
    """A hash of the time and size of each of this package's files."""
    files = ((path, path.stat()) for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    told = [(str(path), found.st_mtime_ns, found.st_size) for path, found in files]
    return hashlib.sha256(repr(told).encode()).hexdigest()


class Forked:
    """A process that a `Server` has forked; the interface is that part of `subprocess.Popen` which `exfuse.runs.child` uses."""

    def __init__(self, status: int, errors: int) -> None:
        self.stderr, self._status = open(errors, "rb"), open(status, "rb", buffering=0)  # noqa: SIM115
        self.pid, self.returncode = int(self._status.readline() or 0), 0
        self._ended = False

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal; that of an interrupted run where the server ended before it.

        Raises:
            TimeoutExpired: if it still runs after ``timeout`` seconds.
        """
        if not self._ended:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            told = self._status.readline()
            if not told:  # the server is no more, and has taken its runs with it: they end as at Ctrl-C
                _wait_for(self.pid, timeout)
            self.returncode, self._ended = int(told or _INTERRUPTED), True
        return self.returncode

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.wait()
        self.stderr.close()
        self._status.close()


def _wait_for(pid: int, timeout: float | None) -> None:
    """Until a process that is nobody's child ends; `TimeoutExpired` after ``timeout`` seconds."""
    try:
        watched = os.pidfd_open(pid)
    except (ProcessLookupError, AttributeError):  # it has ended; or no Linux, where it ends within its grace
        return
    try:
        if not select.select([watched], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(pid), timeout or 0.0)
    finally:
        os.close(watched)


def _serve(connection: socket.socket, die_with: Callable[[int], Callable[[], object]]) -> list[str] | None:
    """Fork for every request; the words of the command line in a fork, None in this process when nobody asks any more."""
    children: dict[int, int] = {}  # file descriptors for the ends of children
    server = os.getpid()
    while True:
        for pid in [*children]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                told = children.pop(pid)
                _write(told, os.waitstatus_to_exitcode(status))
                os.close(told)
        if not select.select([connection], [], [], _LOOKS)[0]:
            continue
        content, (*streams, told), *_ = _received(connection)
        if not content.endswith(b"\n"):
            return None
        if pid := _fork():
            children[pid] = told
            _write(told, pid)
            for stream in streams:
                os.close(stream)
            continue
        for one in (connection.detach(), told, *children.values()):
            os.close(one)
        os.setsid()
        die_with(server)()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for place, stream in enumerate(streams, start=1):
            os.dup2(stream, place)
            os.close(stream)
        request = json.loads(content)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.path[0] = request["folder"]  # as ``python -m`` has it
        return request["words"]  # type: ignore[no-any-return]


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries' idle threads
        return os.fork()


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    content, descriptors, *_ = socket.recv_fds(connection, 2**16, 3)
    while not content.endswith(b"\n") and (more := connection.recv(2**16)):
        content += more
    return content, descriptors or [-1]


def _write(descriptor: int, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it any more
        os.write(descriptor, b"%d\n" % number)


def _accepted(listening: socket.socket, code: str) -> socket.socket | None:
    """In a fork, the connection of somebody who shares this server; None in this process when its parent is no more."""
    parent, folder = int(sys.argv[1]), Path(listening.getsockname()).parent
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with listening:
        while os.getppid() == parent:
            if not select.select([listening], [], [], 10 * _LOOKS)[0]:
                continue
            connection, _ = listening.accept()
            if _fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                with contextlib.suppress(OSError):  # it waited in vain for the imports and is no more
                    connection.sendall(code.encode())
                return connection
            connection.close()
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _main() -> None:
    from exfuse.imports import without_unused
    from exfuse.runs.child import die_with

    code = code_of_package()
    given = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    gc.disable()
    with without_unused():
        for name in _LIBRARIES:
            importlib.import_module(name)
    gc.freeze()  # a fork's collector that looked through it would copy all of it, page by page
    gc.enable()
    connection = _accepted(given, code) if _ACCEPTS in sys.argv else given
    words = _serve(connection, die_with) if connection else None
    if words is not None:
        sys.argv = ["exfuse", *words]
        runpy.run_module("exfuse", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
