"""One job of a sweep: known without torch, skipped if it is done, else trained in a process of its own to a recorded end."""

import functools
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hydra.core.hydra_config import HydraConfig
from msgspec.structs import replace

from exfuse.composition.reading import labelled_split
from exfuse.config.own_code import changed_code
from exfuse.config.read import variant_name
from exfuse.data.labelled import LabelledSplit
from exfuse.data.split import Split
from exfuse.errors import complain, reason_of, user_error
from exfuse.runs.child import INTERRUPTIONS, Ended, Patience, run_child
from exfuse.runs.known import find_known, is_finished, is_searched
from exfuse.runs.plan import find_backbone, plan_run, read_splits
from exfuse.store.description import Described, PretrainingDescription, RunDescription, label_of
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import BUSY, FAILED_BEFORE, MISSING, SKIPPED, WAITING, Outcome, RunProgress
from exfuse.store.record import DONE, FAILED, INTERRUPTED, KILLED, RUNNING, Record
from exfuse.store.tuning import is_verdict
from exfuse.sweeps.parallel import is_beside_others, only_looks, place, takes_one_thread
from exfuse.terminal import Console

_Read = TypeVar("_Read", bound=Callable[..., dict[str, Split] | LabelledSplit])


def _once(read: _Read) -> _Read:
    """Read each split, and ask its files for their manifest, once for all jobs until one of them takes time to train."""

    @functools.lru_cache(maxsize=16)
    def read_once(*arguments: Any) -> Any:
        found = read(*arguments)
        for split in found.values() if isinstance(found, dict) else (found,):
            object.__setattr__(split, "manifest", functools.cache(split.manifest))
        return found

    return read_once  # type: ignore[return-value]


_read_splits, _labelled_split = _once(read_splits), _once(labelled_split)


def plan_folder(described: RunDescription | PretrainingDescription) -> RunFolder:
    """The folder of a segmentation run or of a backbone, found without torch."""
    if isinstance(described, RunDescription):
        return plan_run(described, _read_splits, _read_labelled).folder
    return find_backbone(described, _read_labelled)[0]


def _read_labelled(described: Described, split: str) -> LabelledSplit:
    return _labelled_split(described.pretraining.data, described.data, described.debug.images, split, described.held_out)


def supervise(described: RunDescription | PretrainingDescription) -> None:
    """Bring one job of a multirun to its end and write its outcome. Whatever goes wrong with the run, nothing is raised.

    Args:
        described: the single run or pretraining.

    Raises:
        KeyboardInterrupt: after Ctrl-C, which ends the sweep.
    """
    hydra = HydraConfig.get()
    os.chdir(hydra.runtime.cwd)  # a launcher's worker may stand elsewhere
    started, sweep = time.perf_counter(), Path(hydra.sweep.dir)
    overrides = list(hydra.overrides.task)
    outcome = Outcome(int(hydra.job.num), overrides, row_name(described), described.seed, described.choices)
    outcome.write(sweep)
    # Terminal output of jobs that run side by side would be a jumble.
    in_process = hydra.launcher._target_.endswith("BasicLauncher") and not is_beside_others()
    log = None if in_process else sweep / f"job_{outcome.job}.log"
    outcome.log = str(log or "")
    interrupted = False
    with _always_written(outcome, sweep, started):
        folder = find_known(described, plan_folder(described))
        outcome.store, outcome.key = str(folder.root), folder.key
        interrupted = _bring_to_an_end(described, folder, outcome, log, sweep)
    if interrupted and in_process:
        raise KeyboardInterrupt


def _bring_to_an_end(
    described: RunDescription | PretrainingDescription, folder: RunFolder, outcome: Outcome, log: Path | None, sweep: Path
) -> bool:
    """Fill in status and reason; whether Ctrl-C came meanwhile."""
    if is_finished(described, folder) and not described.overwrite:
        outcome.status, record = SKIPPED, folder.record()
        if record and (changed := changed_code(record.environment.code)):
            outcome.reason = f"{changed} it was trained: overwrite=true trains it anew"
    elif described.sweep and described.sweep.missing == "skip":
        outcome.status, outcome.reason = _as_recorded(folder.record())
    elif folder.is_held() and not described.overwrite:
        outcome.status = BUSY
    elif is_searched(described) and not described.overwrite and is_verdict(before := folder.record()):
        outcome.status, outcome.reason = FAILED_BEFORE, before.why if before else ""
    elif only_looks():
        outcome.status = WAITING
    else:
        ended = _run(described, folder, outcome, log, sweep)
        if ended is None:
            outcome.status = WAITING
            return True
        for read in (_read_splits, _labelled_split):
            read.cache_clear()  # type: ignore[union-attr]
        outcome.status, outcome.reason = (BUSY, "") if ended.held else judge(folder, ended)
        return ended.interrupted
    return False


def _run(
    described: RunDescription | PretrainingDescription, folder: RunFolder, outcome: Outcome, log: Path | None, sweep: Path
) -> Ended | None:
    """Train it in a process of its own: alone on this machine, or in a place beside others, where it takes one thread.

    Returns:
        How it ended; None if the sweep ended before its turn came.
    """
    verb = "train" if isinstance(described, RunDescription) else "pretrain"
    patience = _patience(described, outcome, sweep)
    if log is None:
        Console().rule(f"{outcome.row}, seed {outcome.seed}", align="left")
    beside, overrides = is_beside_others(), [*outcome.overrides]
    if takes_one_thread() and described.runtime.threads is None:
        overrides.append("runtime.threads=1")
    signals = (signal.SIGTERM,) if beside else INTERRUPTIONS
    where: AbstractContextManager[dict[str, str] | None] = (
        place(sweep, described.trainer.accelerator) if beside else nullcontext({})
    )
    served = beside or log is None  # what other launchers start trains one run, or a few
    with where as environment:
        if environment is None:
            return None
        outcome.began = time.time()
        _note(outcome, sweep)
        while (
            ended := run_child(verb, overrides, log, patience, environment=environment, signals=signals, served=served)
        ).held and described.overwrite:
            if ended.interrupted:
                break
            with folder.locked(on_wait=lambda: None):  # another sweep trains it: what that makes is not what was asked for
                pass
    return ended


def _patience(described: RunDescription | PretrainingDescription, outcome: Outcome, sweep: Path) -> Patience:
    """With a run that hangs: the terminal and, for those who look at its outcome, its file are told."""

    def say(sentence: str) -> None:
        complain(f"{outcome.row}, seed {outcome.seed}: {sentence}")
        outcome.reason = sentence
        _note(outcome, sweep)

    def hear(text: str) -> None:
        try:
            progress = msgspec.json.decode(text, type=RunProgress)
        except msgspec.MsgspecError:
            return  # written at this very moment, or half for want of space: the next word tells
        progress = progress if isinstance(described, RunDescription) else replace(progress, of="")
        if not progress.of and (outcome.progress is None or outcome.progress.of):
            outcome.began, outcome.before = time.time(), progress.epoch  # what came before says nothing of its pace
        outcome.progress = progress
        _note(outcome, sweep)

    asked = described.sweep
    return Patience(asked.hung, asked.timeout, say, hear) if asked else Patience(say=say, hear=hear)


def judge(folder: RunFolder, ended: Ended) -> tuple[str, str]:
    """Status and reason after a child's end; a record that still says running is set right."""
    record = folder.record()
    if ended.returncode == 0 and folder.finished():
        return DONE, ""
    if ended.returncode == 0:
        status = INTERRUPTED  # which no search takes for a bad setting
        reason = "it made another run: a config file or the data changed since the sweep began; start it again"
    elif ended.hung:
        status, reason = FAILED, f"it made no progress for {ended.hung:.0f} s, and sweep.timeout ended it"
    elif ended.interrupted or ended.returncode == 130:  # the latter by trainer.max_time
        status, reason = INTERRUPTED, "interrupted; the same command goes on from the last saved epoch"
    elif ended.returncode < 0:
        status, reason = (
            KILLED,
            f"its process was ended by signal {-ended.returncode}"
            + (" (SIGKILL: out of memory?)" if ended.returncode == -9 else ""),
        )
    else:
        status, reason = FAILED, ended.complaint or f"its process ended with status {ended.returncode}"
    if record and (record.status == RUNNING or (ended.hung and not record.done)):
        folder.write(replace(record, status=status, reason=reason))
    return status, reason


def _as_recorded(record: Record | None) -> tuple[str, str]:
    """Status and reason of a run that is not done, from an earlier start."""
    if record is None or record.done:  # done, but its counts are gone
        return MISSING, ""
    return (INTERRUPTED if record.status == RUNNING else record.status), record.why


@contextmanager
def _always_written(outcome: Outcome, sweep: Path, started: float) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the sweep goes on, whatever it is
        mistake = user_error(error)
        outcome.status = FAILED
        outcome.reason = str(mistake) if mistake else reason_of(traceback.format_exc())
    finally:
        outcome.seconds = round(time.perf_counter() - started, 1)
        _note(outcome, sweep)


def _note(outcome: Outcome, sweep: Path) -> None:
    """Tell whoever watches the sweep; where the file finds no space, the run goes on untold."""
    try:
        outcome.write(sweep)
    except OSError as error:
        complain(f"{outcome.row}, seed {outcome.seed}: {sweep} cannot be written ({error.strerror}); the run goes on.")


def row_name(described: Described) -> str:
    """What a table calls the variant, whatever name was typed for its runs; of a study whose rows are overrides the row."""
    return (described.sweep and described.sweep.row) or variant_name(described.choices, label_of(described))
