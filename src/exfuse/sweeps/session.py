"""The parent of a sweep: at its end it says what ran, was skipped or failed and why, and tabulates the study."""

import hashlib
import shlex
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from exfuse.config.composing import compose_each_job_once
from exfuse.errors import UserError, complain, user_error
from exfuse.store.checked import read_plain, typed
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import BUSY, ELSEWHERE, GOOD, STARTED, Outcome, forget_outcomes, read_outcomes
from exfuse.store.record import INTERRUPTED
from exfuse.sweeps.collect import DeclaredStudy, collect_study


class _Sweep(NamedTuple):
    folder: Path
    study: DeclaredStudy
    output: Path | None
    command: str
    mixed: bool
    waits: bool
    queued: bool
    tabulates: bool


_running: list[_Sweep] = []  # at most one: Hydra hands its callbacks nothing that the caller could get back


class SweepWatch(Callback):
    """Hydra's callback by which the parent learns where its sweep lies and which study it is.

    Args:
        tabulates: whether the runs are segmentations, which make a table.
    """

    def __init__(self, tabulates: bool) -> None:
        self.tabulates = tabulates

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        hydra = config.hydra
        if hydra.launcher._target_.endswith("BasicLauncher"):
            compose_each_job_once()
        study = OmegaConf.to_container(config.study, resolve=True) if "study" in config else None
        remedy = "Mend the file in conf/study, or the override."
        command = _command(hydra.job.config_name, hydra.overrides.task)
        own = f"multirun-{hashlib.sha256(command.encode()).hexdigest()[:8]}"  # the same command finds it again
        study = {"name": own, "title": "Multirun"} if study is None else study
        named = typed(study, DeclaredStudy, "study", "one that can be tabulated", remedy)
        forget_outcomes(Path(hydra.sweep.dir))
        _running[:] = [
            _Sweep(
                folder=Path(hydra.sweep.dir),
                study=named,
                output=config.sweep.output and Path(config.sweep.output),
                command=command,
                mixed=config.sweep.mixed or "study" not in config,  # a multirun may well sweep a setting; its table marks it
                waits=config.sweep.missing != "skip",
                queued="slurm" in str(hydra.launcher._target_).lower(),  # its jobs outlive this process
                tabulates=self.tabulates,
            )
        ]


def finish_sweep(error: BaseException | None) -> int:
    """Say how the sweep of this process ended and, if nothing ended it early, tabulate it.

    Args:
        error: that ended it early: Ctrl-C, a mistake in an override, or a launcher that failed.

    Returns:
        An exit status: 1 if a run is not done or the launcher failed; 0 if all is well or ``error`` has yet to be told.
    """
    if not _running:
        return 0
    sweep, console = _running.pop(), Console()
    outcomes = read_outcomes(sweep.folder)
    if not outcomes:
        return 0  # nothing was started, and the error that says why is on its way
    for outcome in outcomes:
        if outcome.status == BUSY and sweep.waits and error is None:
            _wait(outcome, console)
        elif outcome.status == STARTED and not (error and sweep.queued):
            outcome.status, outcome.reason = INTERRUPTED, "its supervisor was ended; the same command goes on"
    console.print(f"Sweep: {_counts(outcomes)}")
    console.print(_table(outcomes))
    if error is not None:
        return _ended_early(sweep, error, console)
    good = all(outcome.status in GOOD for outcome in outcomes)
    if sweep.tabulates and any(outcome.key for outcome in outcomes):
        good &= _tabulate(sweep, outcomes, console)
    return 0 if good else 1


def _ended_early(sweep: _Sweep, error: BaseException, console: Console) -> int:
    if sweep.queued:
        console.print("Jobs that SLURM has queued or started go on (scancel ends them). The same command waits for them.")
    elif isinstance(error, KeyboardInterrupt):
        console.print("The remaining jobs were not started. The same command goes on.")
    told_elsewhere = isinstance(error, KeyboardInterrupt) or user_error(error) is not None
    if told_elsewhere or not isinstance(error, Exception):
        return 0
    traceback.print_exception(error)  # of a launcher's own code: nobody can mend it without
    complain(f"the launcher failed, {type(error).__name__}: {error}")
    return 1


def _wait(outcome: Outcome, console: Console) -> None:
    """Wait for the other sweep that trains this run, then see what became of it."""
    folder = RunFolder(Path(outcome.store), outcome.key)
    with (
        console.status(f"{outcome.row}, seed {outcome.seed}: waiting for the sweep that trains it"),
        folder.locked(lambda: None),
    ):
        finished = folder.finished()
    outcome.status, outcome.reason = (ELSEWHERE, "") if finished else (INTERRUPTED, "the other sweep did not finish it")


def _tabulate(sweep: _Sweep, outcomes: list[Outcome], console: Console) -> bool:
    from exfuse.analysis.rendering import render_study  # loads only once there is something to show

    try:
        output = sweep.output or _own_folder(sweep, {outcome.key for outcome in outcomes})
        changed = collect_study(outcomes, sweep.study, sweep.command, sweep.mixed, output)
        render_study(output, console, redraw=changed)
    except UserError as error:
        complain(str(error))
        return False
    return True


def _own_folder(sweep: _Sweep, keys: set[str]) -> Path:
    """The study's folder, or one beside it if that holds the table of a sweep with other runs, which would be lost."""
    folder = Path("outputs/studies") / sweep.study.name
    before = folder / "study.json"
    if {path.name for path in folder.glob("records/*")} <= keys or not before.is_file():
        return folder
    known = read_plain(before, "a study", f"Delete {folder}, or set sweep.output to another folder.")
    if known.get("command") == sweep.command:
        return folder
    return folder.with_name(f"{folder.name}-{hashlib.sha256(sweep.command.encode()).hexdigest()[:8]}")


def _command(verb: str, overrides: Sequence[str]) -> str:
    """As a user types it, without where things lie and what only this start was told."""
    kept = [override for override in overrides if not override.startswith(("sweep.", "paths."))]
    return shlex.join(["exfuse", verb, *kept])


def _counts(outcomes: list[Outcome]) -> str:
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{number} {status}" for status, number in counts.items())


def _table(outcomes: list[Outcome]) -> Table:
    table = Table()
    for column in ("run", "seed", "status", "key", "minutes", "why"):
        table.add_column(column, justify="right" if column in ("seed", "minutes") else "left", overflow="fold")
    for outcome in outcomes:
        colour = "green" if outcome.status in GOOD else "red"
        why = outcome.reason.replace("[", r"\[") + (f"\n{outcome.log}" if outcome.reason and outcome.log else "")
        minutes = f"{outcome.seconds / 60:.1f}"
        table.add_row(outcome.row, str(outcome.seed), f"[{colour}]{outcome.status}[/]", outcome.key, minutes, why)
    return table
