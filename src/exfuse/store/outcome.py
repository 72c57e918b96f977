"""How each job of a sweep ended, one small file a job: launchers run jobs in many processes, files are what they all share."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from exfuse.files import write_json

STARTED = "started"  # a supervisor that never got further: its machine or launcher failed
DONE, SKIPPED, ELSEWHERE = "done", "skipped", "done elsewhere"  # trained now, before, or by another sweep meanwhile
FAILED, KILLED, INTERRUPTED, BUSY, MISSING = "failed", "killed", "interrupted", "busy", "missing"
GOOD = (DONE, SKIPPED, ELSEWHERE)


@dataclass
class Outcome:
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

    def write(self, sweep: Path) -> None:
        """Write or replace the job's file in the sweep's folder, atomically."""
        write_json(_folder(sweep) / f"{self.job}.json", asdict(self))


def read_outcomes(sweep: Path) -> list[Outcome]:
    """The outcomes of a sweep's jobs, by their number."""
    found: Sequence[Path] = [*_folder(sweep).glob("[0-9]*.json")]
    return sorted((Outcome(**json.loads(path.read_text())) for path in found), key=lambda outcome: outcome.job)


def forget_outcomes(sweep: Path) -> None:
    """Remove what an earlier sweep left in the same folder."""
    shutil.rmtree(_folder(sweep), ignore_errors=True)


def _folder(sweep: Path) -> Path:
    return sweep / "jobs"
