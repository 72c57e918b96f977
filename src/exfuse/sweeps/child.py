"""One training as a process of its own, started with the single run's overrides, that never outlives its parent."""

import collections
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from exfuse.config import search_path
from exfuse.errors import HELD

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl
_KEPT = 40  # lines of the error stream


class Ended(NamedTuple):
    """How a child ended.

    Attributes:
        returncode: negative for a signal.
        complaint: the last line of its error stream that says what was wrong; empty if there is none.
        interrupted: whether Ctrl-C, or an order to end, came while it ran.
    """

    returncode: int
    complaint: str
    interrupted: bool

    @property
    def held(self) -> bool:
        """Whether another process trains that run."""
        return self.returncode == HELD


def run_child(verb: str, overrides: Sequence[str], log: Path | None) -> Ended:
    """Run ``python -m exfuse verb overrides`` for one run and wait for it.

    Ctrl-C and SIGTERM are handed on once as SIGINT, after which the training ends at its last saved epoch; a second Ctrl-C
    kills it. If this process dies, the child gets SIGINT as well (on Linux), so that no forgotten training holds a GPU.

    Args:
        verb: ``train`` or ``pretrain``.
        overrides: of the single run.
        log: file for what it prints; None for this process's terminal.
    """
    command = [sys.executable, "-m", "exfuse", verb, *search_path.arguments(), *overrides, "hydra.mode=RUN"]
    output = None
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    try:
        with subprocess.Popen(
            command,
            env=_environment(),
            stdout=output,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches this process alone, which hands it on exactly once
            preexec_fn=_die_with(os.getpid()),
        ) as process:
            assert process.stderr is not None
            kept: collections.deque[str] = collections.deque(maxlen=_KEPT)
            reader = threading.Thread(target=_copy, args=(process.stderr, output or sys.stderr.buffer, kept), daemon=True)
            reader.start()
            interrupted = _wait(process)
            reader.join(timeout=10)
    finally:
        if output is not None:
            output.close()
    return Ended(process.returncode, _complaint(kept), interrupted)


def _wait(process: subprocess.Popen[bytes]) -> bool:
    """Wait, handing on interruptions; whether there was one."""
    interrupted = 0

    def hand_on(*_: object) -> None:
        nonlocal interrupted
        interrupted += 1
        kind = signal.SIGINT if interrupted == 1 else signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, kind)

    in_main_thread = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()  # Python lets only the main thread handle them
    before = {kind: signal.signal(kind, hand_on) for kind in signals}
    try:
        process.wait()
    except BaseException:  # a launcher's own signal handler: nobody would wait for the child any more
        hand_on()
        raise
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    return interrupted > 0


def _copy(stream: IO[bytes], to: IO[bytes], kept: collections.deque[str]) -> None:
    for line in stream:
        to.write(line)
        to.flush()
        kept.append(line.decode(errors="replace").rstrip())


def _complaint(lines: Sequence[str]) -> str:
    """``Error: ...`` as entry points print it, else the last line, which is a traceback's message."""
    spoken = [line.strip() for line in lines if line.strip()]
    ours = [line for line in spoken if line.startswith("Error: ")]
    return (ours or spoken or [""])[-1].removeprefix("Error: ")


def _environment() -> dict[str, str]:
    """Without what would make Lightning take the supervisor's cluster job for its own, or Hydra print stack traces."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") and name != "HYDRA_FULL_ERROR"}


def _die_with(parent: int) -> Callable[[], object]:
    if sys.platform != "linux":
        return lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork

    def ask() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a sweep in the background would hand on that it ignores SIGINT
        prctl(_SET_DEATH_SIGNAL, signal.SIGINT)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)

    return ask
