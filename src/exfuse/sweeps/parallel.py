"""Runs of a sweep side by side on this machine: how many at once, and which GPU each of them gets."""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from exfuse.devices import gpus_for
from exfuse.memory import memory_limit
from exfuse.process import handling, usable_cores
from exfuse.runs.child import INTERRUPTIONS, share_server
from exfuse.store.outcome import WAITING, read_outcomes

# Of libraries, which read them when they are loaded; joblib sets them so in its processes.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_BYTES = 3 * 2**30  # that a training takes on a CPU with its libraries and loader; chosen
_ENDING = "ending"  # a file among the places: the sweep is ending
_LOOKS = 0.5  # seconds
_WRITES = 5.0  # seconds in which a process whose sweep was killed writes how its run ended

Asked = int | Literal["auto"]


def at_once(asked: Asked, accelerator: str, alone: bool) -> int:
    """How many runs may be trained at the same time.

    Args:
        asked: that many; ``auto``: one for each GPU, or without one for each core, as far as there is memory.
        accelerator: of the runs, as Lightning's Trainer takes it.
        alone: whether a run takes several devices, and so all of them.
    """
    if asked != "auto":
        return asked
    if alone:
        return 1
    return len(gpus_for(accelerator)) or max(1, min(usable_cores(), memory_limit() // _BYTES))


def is_beside_others() -> bool:
    """Whether this process is one of joblib's, by which a sweep trains runs side by side."""
    return multiprocessing.current_process().name.startswith("LokyProcess")


def takes_one_thread() -> bool:
    """Whether this process trains a run beside others, or the last one of several, which is to be like them."""
    return is_beside_others() or _doing == _LAST


@contextmanager
def place(sweep: Path, accelerator: str) -> Iterator[dict[str, str] | None]:
    """The first free place of a sweep, until the end: what the environment of its run is to say; None if the sweep is ending.

    Inside, this process gets SIGTERM when the sweep ends, or is no more. Ctrl-C, which reaches it too, it leaves to the sweep.
    """
    gpus = gpus_for(accelerator)
    folder = _places(sweep)
    for number in count():
        lock = FileLock(folder / f"{number}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        break
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _nothing)
    over = threading.Event()
    parent = _parent()
    threading.Thread(target=_end_run_with_sweep, args=(parent, folder / _ENDING, over), daemon=True).start()
    _has_place.set()
    try:
        if (folder / _ENDING).exists() or os.getppid() != parent:
            yield None
        else:
            yield {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
    finally:
        over.set()
        _has_place.clear()
        lock.release()


_has_place = threading.Event()


@cache
def _parent() -> int:
    """The sweep that started this process, which ends some time after it: where a sweep is killed, nobody else would end it."""
    sweep = os.getppid()

    def end() -> None:
        while True:
            while os.getppid() == sweep or _has_place.is_set():
                time.sleep(_LOOKS)
            time.sleep(_WRITES)
            if not _has_place.is_set():
                os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    return sweep


def _end_run_with_sweep(parent: int, ending: Path, over: threading.Event) -> None:
    """Interrupt the run of this process when its sweep ends or is no more."""
    asked = False
    while not over.wait(_LOOKS):
        has_run = signal.getsignal(signal.SIGTERM) is not _nothing
        if has_run and not asked and (os.getppid() != parent or ending.exists()):
            os.kill(os.getpid(), signal.SIGTERM)
            asked = True


def _nothing(*_: object) -> None:
    """Before there is a run to hand a signal on to."""


def _places(sweep: Path) -> Path:
    folder = sweep / "places"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def only_looks() -> bool:
    """Whether a job that has to be trained is to be left for later."""
    return _doing == _LOOKING


_LOOKING, _LAST = "looking at all jobs", "training the last"
_doing = ""  # what Hydra's own launcher is at in this process, for `SideBySide`


@contextmanager
def _at(what: str) -> Iterator[None]:
    global _doing
    _doing = what
    try:
        yield
    finally:
        _doing = ""


@contextmanager
def _handing_on(sweep: Path) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end all runs at their last saved epoch, and then this; a second one at once.

    Raises:
        KeyboardInterrupt: if there was one.
    """
    asked = 0

    def hand_on(*_: object) -> None:
        nonlocal asked
        asked += 1
        (_places(sweep) / _ENDING).touch()
        if asked > 1:
            raise KeyboardInterrupt

    with handling(INTERRUPTIONS, hand_on):
        yield
    if asked:
        raise KeyboardInterrupt


class SideBySide(Launcher):
    """Hydra's own launcher for what is done already, then joblib's for what has yet to be trained.

    Args:
        own: Hydra's, set up, which runs jobs in this process.
        most: runs at once.
        watched: shows how far the runs are while it is entered.
    """

    def __init__(self, own: Launcher, most: int, watched: Callable[[int], AbstractContextManager[object]]) -> None:
        self.own, self.most, self.watched = own, most, watched
        self.context: dict[str, Any] = {}

    def setup(self, **context: Any) -> None:
        """Take what joblib's launcher needs to know of Hydra."""
        self.context = context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Look at every job in this process, then train those that are not done."""
        from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

        sweep = Path(self.context["config"].hydra.sweep.dir)
        shutil.rmtree(_places(sweep))  # of an earlier sweep in this folder
        with _at(_LOOKING):
            returned = self.own.launch(job_overrides, initial_job_idx)
        jobs = range(initial_job_idx, initial_job_idx + len(job_overrides))
        waiting = sum(one.job in jobs and one.status == WAITING for one in read_outcomes(sweep))
        if not waiting:
            return returned
        runs = min(self.most, waiting)
        if runs == 1:
            with _at(_LAST):
                return self.own.launch(job_overrides, initial_job_idx)
        threads = {name: os.environ.get(name, str(max(1, usable_cores() // runs))) for name in _THREADS}
        share_server(threads | {name: str(value) for name, value in self.context["config"].hydra.job.env_set.items()})
        launcher = JoblibLauncher(n_jobs=runs, batch_size=1)
        launcher.setup(**self.context)
        with self.watched(runs), _handing_on(sweep):
            found: Sequence[JobReturn] = launcher.launch(job_overrides, initial_job_idx)
        return found
