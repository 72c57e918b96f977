"""Runs of a sweep side by side on this machine: how many at once, and which GPU each of them gets."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from exfuse.process import gpus_of_machine, memory_limit
from exfuse.store.outcome import WAITING, read_outcomes

_BYTES = 3 * 2**30  # that a training takes on a CPU with its libraries and loader; chosen
_ON_CPU = ("cpu", "mps")

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
    gpus = 0 if accelerator in _ON_CPU else len(visible_gpus())
    return gpus or max(1, min(len(os.sched_getaffinity(0)), memory_limit() // _BYTES))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(gpus_of_machine())]
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def is_beside_others() -> bool:
    """Whether this process is one of joblib's, by which a sweep trains runs side by side."""
    return multiprocessing.current_process().name.startswith("LokyProcess")


@contextmanager
def place(sweep: Path, accelerator: str) -> Iterator[dict[str, str]]:
    """The first free place of a sweep, until the end: what the environment of its run is to say."""
    gpus = [] if accelerator in _ON_CPU else visible_gpus()
    folder = sweep / "places"
    folder.mkdir(parents=True, exist_ok=True)
    for number in count():
        lock = FileLock(folder / f"{number}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        try:
            yield {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        finally:
            lock.release()
        return


def only_looks() -> bool:
    """Whether a job that has to be trained is to be left for later."""
    return _looks


_looks = False


@contextmanager
def _looking() -> Iterator[None]:
    global _looks
    _looks = True
    try:
        yield
    finally:
        _looks = False


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the sweep as Ctrl-C does, its trainings with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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

        with _looking():
            returned = self.own.launch(job_overrides, initial_job_idx)
        jobs = range(initial_job_idx, initial_job_idx + len(job_overrides))
        sweep = Path(self.context["config"].hydra.sweep.dir)
        waiting = sum(one.job in jobs and one.status == WAITING for one in read_outcomes(sweep))
        if not waiting:
            return returned
        runs = min(self.most, waiting)
        if runs == 1:
            return self.own.launch(job_overrides, initial_job_idx)
        launcher = JoblibLauncher(n_jobs=runs, batch_size=1)
        launcher.setup(**self.context)
        with self.watched(runs), _ended_by_sigterm():
            found: Sequence[JobReturn] = launcher.launch(job_overrides, initial_job_idx)
        return found
