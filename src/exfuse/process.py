"""The process that calculates: which of several it is, how many cores and workers it has, and whom it tells of its progress."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from exfuse.devices import gpus_of_machine
from exfuse.errors import UserError

if TYPE_CHECKING:
    pass
_MOST_WORKERS = 8  # a loader: there are two in a training
SWEEP = "EXFUSE_SWEEP"  # environment variable: the name by which trackers show a sweep of no study
HEARTBEAT = "EXFUSE_HEARTBEAT"  # environment variable: a file whose time of change says when a child last made progress
_beaten, _said = 0.0, False


def beat(said: Callable[[], str] | None = None) -> None:
    """Tell whoever started this process that it makes progress, and nobody where none asked.

    Its first words are written at once, all else at most every second.

    Args:
        said: gives the text that the file is to hold; what it held stays there without.
    """
    global _beaten, _said
    first = said is not None and not _said
    if (path := os.environ.get(HEARTBEAT)) and (first or time.monotonic() > _beaten + 1):
        _beaten, _said = time.monotonic(), _said or first
        with contextlib.suppress(OSError):
            if said is not None:
                Path(path).write_text(said())
            os.utime(path)


def is_first_process() -> bool:
    """Whether this process writes and prints: the only one, or the first of several of a distributed run."""
    from pytorch_lightning.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def loader_workers(asked: int | Literal["auto"]) -> int:
    """How many processes a data loader gets.

    ``auto`` shares the cores that this process may use among the machine's GPUs, whether or not this process sees them all, and
    leaves one to the training itself; it is at least 2, and 2 where there is no GPU, whose work the cores then do.
    """
    if asked != "auto":
        return asked
    cores, gpus = usable_cores(), gpus_of_machine()
    return max(2, min(_MOST_WORKERS, cores // gpus - 1)) if gpus else min(2, cores)


def usable_cores() -> int:
    """How many cores this process may use: fewer than the machine has where it is bound to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def handling(kinds: Sequence[signal.Signals], handler: Callable[..., object]) -> Iterator[None]:
    """Inside, the main thread has these signals handled by ``handler``; Python lets no other thread handle any."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {kind: signal.signal(kind, handler) for kind in kinds} if is_main else {}
    try:
        yield
    finally:
        for kind, former in before.items():
            signal.signal(kind, former)


def in_own_process(module: str, asked: Any, what: str, advice: str = "") -> Any:
    """What ``module``, run as a program that calls `answer_request`, makes of plain data, as plain data.

    Args:
        module: its dotted name.
        asked: for it.
        what: that process was to do, for the message.
        advice: a sentence that follows it.

    Raises:
        UserError: if the process fails, with the last line that it said.
    """
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, input=msgspec.json.encode(asked).decode(), capture_output=True, text=True)
    try:
        return msgspec.json.decode(done.stdout.splitlines()[-1])
    except (IndexError, msgspec.DecodeError) as error:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        ended = f"The process that was to {what} ended with status {done.returncode}: {said}. {advice}"
        raise UserError(ended.rstrip()) from error


def answer_request(work: Callable[[Any], Any]) -> None:
    """Be such a process: print, last of all, what ``work`` makes of what standard input asks."""
    print(msgspec.json.encode(work(msgspec.json.decode(sys.stdin.buffer.read()))).decode())
