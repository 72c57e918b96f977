"""One training as a process of its own, started with the single run's overrides, that never outlives its parent."""

import collections
import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from exfuse.config import search_path
from exfuse.errors import HELD, complain, reason_of
from exfuse.process import HEARTBEAT, handling
from exfuse.runs.server import SHARED, Forked, Server, start_shared

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl
_KEPT = 200  # lines of the error stream
_ERROR = "Error: "  # see `exfuse.errors.complain`
_LOOKS = 2.0  # seconds between two looks at a child
_GRACE = 10.0  # seconds that a child has to end by itself


class Ended(NamedTuple):
    """How a child ended.

    Attributes:
        returncode: negative for a signal.
        complaint: what its error stream says was wrong, in a line; empty if there is none.
        interrupted: whether Ctrl-C, or an order to end, came while it ran.
        hung: after how many seconds without progress it was ended; 0 if it was not.
    """

    returncode: int
    complaint: str
    interrupted: bool
    hung: float = 0.0

    @property
    def held(self) -> bool:
        """Whether another process trains that run."""
        return self.returncode == HELD


class Patience(NamedTuple):
    """What a child that makes no progress is allowed, in seconds.

    Attributes:
        hung: after which ``say`` is told so, once for each standstill.
        timeout: after which it is ended; None for never.
        say: takes a sentence.
        hear: takes what the child says of its progress, whenever that has changed.
    """

    hung: float = 1800.0
    timeout: float | None = None
    say: Callable[[str], object] = complain
    hear: Callable[[str], object] = lambda _: None


def run_child(
    verb: str,
    overrides: Sequence[str],
    log: Path | None,
    patience: Patience | None = None,
    relayed: bool = True,
    environment: Mapping[str, str] | None = None,
    signals: Sequence[signal.Signals] = INTERRUPTIONS,
    served: bool = False,
) -> Ended:
    """Run ``python -m exfuse verb overrides`` for one run and wait for it.

    Ctrl-C and SIGTERM are handed on once as SIGINT, after which the training ends at its last saved epoch; a second Ctrl-C
    kills it. If this process dies, the child gets SIGINT as well (on Linux), so that no forgotten training holds a GPU.

    Args:
        verb: ``train`` or ``pretrain``.
        overrides: of the single run.
        log: file for what it prints; None for this process's terminal.
        patience: with a child that makes no progress: trains no step, scores no image and prints nothing. Where somebody
            watches this process in the same way, the child's progress is this process's, and nobody else watches.
        relayed: whether its own ``Error: ...`` goes where the rest of what it prints goes, or is left to the caller.
        environment: what it finds besides this process's.
        signals: that are handed on.
        served: fork it from a process that has the libraries imported, for whoever starts one after the other.
    """
    words = [verb, *search_path.arguments(), *overrides, "hydra.mode=RUN"]
    output, watched = None, os.environ.get(HEARTBEAT)
    if watched is None:
        handle, heart = tempfile.mkstemp(prefix="exfuse-progress-")
        os.close(handle)
    else:
        heart, patience = watched, Patience(math.inf)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    try:
        with _start(words, _environment() | dict(environment or {}) | {HEARTBEAT: heart}, output, served) as process:
            assert process.stderr is not None
            kept: collections.deque[str] = collections.deque(maxlen=_KEPT)
            to = output or sys.stderr.buffer
            reader = threading.Thread(target=_copy, args=(process.stderr, to, kept, Path(heart), relayed), daemon=True)
            reader.start()
            interrupted, hung = _wait(process, _Watch(Path(heart), patience or Patience(), process), signals)
            reader.join(timeout=10)
    finally:
        if output is not None:
            output.close()
        if watched is None:
            Path(heart).unlink(missing_ok=True)
    return Ended(process.returncode, _complaint(kept, whole=not relayed), interrupted, hung)


def _start(
    words: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None, served: bool
) -> "subprocess.Popen[bytes] | Forked":
    if served:
        global _server
        if _server is None or not _server.fits(_environment()):
            _server = Server(_environment())
        sys.stdout.flush()
        return _server.start(words, environment, output.fileno() if output else 1)
    return subprocess.Popen(
        [sys.executable, "-m", "exfuse", *words],
        env=environment,
        stdout=output,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches this process alone, which hands it on exactly once
        preexec_fn=die_with(os.getpid()),
    )


_server: Server | None = None


def share_server(environment: Mapping[str, str]) -> None:
    """Let the processes that this one starts fork their runs from one that has the libraries imported, instead of one each.

    Args:
        environment: what they find besides this process's, in which the libraries are to be loaded.
    """
    start_shared(_environment() | dict(environment))


class _Watch:
    """Looks whether a child makes progress, and ends one that makes none for too long."""

    def __init__(self, heart: Path, patience: Patience, process: "subprocess.Popen[bytes] | Forked") -> None:
        self.heart, self.patience, self.process = heart, patience, process
        self.said = self.ended = self.beat = 0.0
        self.since = time.monotonic()  # it last beat: the clock of the file's time may jump
        self.heard = ""
        bounds = [patience.hung, *([patience.timeout] if patience.timeout else [])]
        self.every = min(_LOOKS, *(bound / 4 for bound in bounds))

    def look(self) -> None:
        """Say that the child hangs, or end it, if it is time to."""
        if (beat := self.heart.stat().st_mtime) != self.beat:
            self.beat, self.since = beat, time.monotonic()
        if (heard := self.heart.read_text()) != self.heard and heard:
            self.heard = heard
            self.patience.hear(heard)
        still = time.monotonic() - self.since
        if self.patience.timeout and still > self.patience.timeout:
            if not self.ended:
                self.ended = still
                self._signal(signal.SIGINT)  # what is saved stays whole
            elif still > self.ended + _GRACE:
                self._signal(signal.SIGKILL)
        elif still > self.patience.hung and self.said != beat:
            self.said = beat
            self.patience.say(
                f"no progress for {still:.0f} s: no step, no image, no word. Process {self.process.pid} may hang; "
                "sweep.timeout=SECONDS ends such a run as failed."
            )

    def _signal(self, kind: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self.process.pid, kind)


def _wait(process: "subprocess.Popen[bytes] | Forked", watch: _Watch, signals: Sequence[signal.Signals]) -> tuple[bool, float]:
    """Wait, handing on interruptions; whether there was one, and after how long without progress the child was ended."""
    interrupted = 0

    def hand_on(*_: object) -> None:
        nonlocal interrupted
        interrupted += 1
        kind = signal.SIGINT if interrupted == 1 else signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, kind)

    with handling(signals, hand_on):
        try:
            while True:
                try:
                    process.wait(watch.every)
                    break
                except subprocess.TimeoutExpired:
                    watch.look()
        except BaseException:  # a launcher's own signal handler: nobody would wait for the child any more
            hand_on()
            raise
    return interrupted > 0, watch.ended


def _copy(stream: IO[bytes], to: IO[bytes], kept: collections.deque[str], heart: Path, relayed: bool) -> None:
    held = False
    for line in stream:
        with contextlib.suppress(OSError):
            os.utime(heart)
        held = held or (not relayed and line.startswith(_ERROR.encode()))  # what follows goes on with it
        with contextlib.suppress(OSError):  # whoever does not read on would hold up the child
            if not held:
                to.write(line)
                to.flush()
        kept.append(line.decode(errors="replace").rstrip())


def _complaint(lines: Sequence[str], whole: bool = False) -> str:
    """``Error: ...`` as entry points print it, ``whole`` or its first line; else what a traceback says, else the last line."""
    ours = [place for place, line in enumerate(lines) if line.strip().startswith(_ERROR)]
    if not ours:
        return reason_of("\n".join(lines))
    return "\n".join([*lines][ours[-1] :][: None if whole else 1]).strip().removeprefix(_ERROR)


def _environment() -> dict[str, str]:
    """Without what would make Lightning take the supervisor's cluster job for its own, or Hydra print stack traces; and
    without what is this process's own: the place of its progress and the server that it may take runs from."""
    left_out = ("HYDRA_FULL_ERROR", HEARTBEAT, SHARED)
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") and name not in left_out}


def die_with(parent: int) -> Callable[[], object]:
    """For a process that has just been forked: let SIGINT end it when ``parent`` ends."""
    if sys.platform != "linux":
        return lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork

    def ask() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a sweep in the background would hand on that it ignores SIGINT
        prctl(_SET_DEATH_SIGNAL, signal.SIGINT)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)

    return ask
