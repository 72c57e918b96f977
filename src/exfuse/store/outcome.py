"""How each job of a sweep ended, one small file a job: launchers run jobs in many processes, files are what they all share."""

import shutil
from pathlib import Path

import msgspec

from exfuse.store.checked import plain, read_json, write_sealed_json
from exfuse.store.folder import RunFolder
from exfuse.store.record import DONE, Record

STARTED = "started"  # a supervisor that never got further: its machine or launcher failed
SKIPPED, ELSEWHERE = "skipped", "done elsewhere"  # trained before, or by another sweep meanwhile
BUSY, MISSING = "busy", "missing"
WAITING = "waiting"  # its turn has not come
FAILED_BEFORE = "failed before"  # a run of a search at an earlier start, which is what the search wants to know
GOOD = (DONE, SKIPPED, ELSEWHERE)


class RunProgress(msgspec.Struct, frozen=True):
    """How far a run is.

    Attributes:
        epoch: epochs that are over, with the part of the present one.
        epochs: of the whole training.
        score: the last mIoU or accuracy, 0 to 1; None before the first validation.
        of: what is trained, where that is what the run starts from and not the run itself.
    """

    epoch: float
    epochs: int
    score: float | None = None
    of: str = ""


class Outcome(msgspec.Struct):
    """How one job ended.

    Attributes:
        job: its number in the sweep.
        overrides: of the single run, as a user would type them.
        row: what a study's table calls the variant: its ablation's name, else its label.
        seed: of the run.
        choices: the option that was chosen in each config group.
        store, key: where the record lies; the key is empty if the run could not even be planned.
        status: one of those above.
        reason: one line that says why it is not good.
        log: what the training printed, where that did not go to the terminal.
        seconds: that the job took.
        began: when it, or its training once that makes progress, began, in seconds since 1970.
        before: epochs that were over then.
        progress: of its training.
    """

    job: int
    overrides: list[str]
    row: str
    seed: int
    choices: dict[str, str]
    store: str = ""
    key: str = ""
    status: str = STARTED
    reason: str = ""
    log: str = ""
    seconds: float = 0.0
    began: float = 0.0
    before: float = 0.0
    progress: RunProgress | None = None

    @property
    def folder(self) -> RunFolder:
        """Of its run, if that could be planned."""
        return RunFolder(Path(self.store), self.key)

    def record(self) -> Record | None:
        """Of its run; None where that could not be planned, or has not begun."""
        return self.folder.record() if self.key else None

    def is_held(self) -> bool:
        """Whether a process holds its run at this moment."""
        return bool(self.key) and self.folder.is_held()

    def write(self, sweep: Path) -> None:
        """Write or replace the job's file in the sweep's folder, atomically."""
        write_sealed_json(_folder(sweep) / f"{self.job}.json", plain(self))


def read_outcomes(sweep: Path) -> list[Outcome]:
    """The outcomes of a sweep's jobs, by their number."""
    remedy = "Start the sweep again."
    found = [read_json(path, Outcome, "a job's outcome", remedy) for path in _folder(sweep).glob("[0-9]*.json")]
    return sorted(found, key=lambda outcome: outcome.job)


def forget_outcomes(sweep: Path) -> None:
    """Remove what an earlier sweep left in the same folder."""
    shutil.rmtree(_folder(sweep), ignore_errors=True)


def _folder(sweep: Path) -> Path:
    return sweep / "jobs"
