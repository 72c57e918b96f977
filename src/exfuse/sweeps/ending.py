"""The end of a sweep: what ran and why not, said once, and the study that its runs make."""

import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from exfuse.errors import UserError, complain, user_error
from exfuse.store.outcome import BUSY, ELSEWHERE, GOOD, MISSING, STARTED, Outcome, read_outcomes
from exfuse.store.record import INTERRUPTED
from exfuse.sweeps.collect import collect_study
from exfuse.sweeps.study_folder import study_folder
from exfuse.sweeps.sweep import Sweep, running
from exfuse.sweeps.watching import is_of_search, names_of
from exfuse.terminal import Console, RichTable, table_columns


def settled(sweep: Sweep, console: Console) -> list[Outcome]:
    """Outcomes so far, once those that another sweep trains have ended too."""
    outcomes = read_outcomes(sweep.folder)
    for outcome in outcomes:
        if outcome.status == BUSY and sweep.waits:
            _wait(outcome, console)
            outcome.write(sweep.folder)
    return outcomes


def finish_sweep(error: BaseException | None) -> int:
    """Say how the sweep of this process ended and, if nothing ended it early, tabulate it.

    Args:
        error: that ended it early: Ctrl-C, a mistake in an override, or a launcher that failed.

    Returns:
        An exit status: 1 if a run is not done or the launcher failed; 0 if all is well or ``error`` has yet to be told.
    """
    if not running:
        return 0
    sweep, console = running.pop(), Console()
    sweep.going_on.close()
    outcomes = read_outcomes(sweep.folder) if error else settled(sweep, console)
    if not outcomes:
        return 0  # nothing was started, and the error that says why is on its way
    for outcome in outcomes:
        if outcome.status == STARTED and not (error and sweep.queued):
            outcome.status, outcome.reason = INTERRUPTED, "its supervisor was ended; the same command goes on"
    ended = {outcome.job: outcome for outcome in outcomes}
    shown = [ended.get(outcome.job, outcome) for outcome in sweep.plan.found] if sweep.plan else outcomes
    outcomes += [outcome for outcome in shown if outcome.job not in ended]
    console.print(f"Sweep: {_counts(outcomes)}")
    shared = _shared_reasons(outcomes)
    searched = {id(one) for one in outcomes if is_of_search(one)}
    names = {key: f"{name} (search)" if key in searched else name for key, name in names_of(outcomes).items()}
    console.print(_table(outcomes, names, shared))
    for reason, mark in shared.items():
        alike = sum(outcome.reason == reason for outcome in outcomes)
        console.print(f"{mark} {alike} runs: {reason}", soft_wrap=True, highlight=False, markup=False)
    if error is not None:
        return _ended_early(sweep, error, console)
    good = all(outcome.status in GOOD for outcome in shown)
    if not sweep.waits and (missing := sum(outcome.status == MISSING for outcome in shown)):
        complain(
            f"{missing} of {len(shown)} runs are not there, and sweep.missing=skip trains none: leave it out to train them."
        )
    if sweep.tabulates and any(outcome.key for outcome in outcomes):
        good &= _tabulate(sweep, shown, console)
    return 0 if good else 1


def _ended_early(sweep: Sweep, error: BaseException, console: Console) -> int:
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
    with (
        console.status(f"{outcome.row}, seed {outcome.seed}: waiting for the sweep that trains it"),
        outcome.folder.locked(lambda: None),
    ):
        finished = outcome.folder.finished()
    outcome.status, outcome.reason = (ELSEWHERE, "") if finished else (INTERRUPTED, "the other sweep did not finish it")


def _tabulate(sweep: Sweep, outcomes: list[Outcome], console: Console) -> bool:
    from exfuse.analysis.rendering import render_study  # loads only once there is something to show

    try:
        output = study_folder(sweep, outcomes)
        search = sweep.plan.search if sweep.plan else None
        sequential = sweep.plan.sequential if sweep.plan else None
        changed = collect_study(outcomes, sweep.study, sweep.command, sweep.mixed, output, search, sequential)
        render_study(output, console, redraw=changed)
    except UserError as error:
        complain(str(error))
        return False
    return True


def _counts(outcomes: list[Outcome]) -> str:
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{number} {status}" for status, number in counts.items())


def _shared_reasons(outcomes: list[Outcome]) -> dict[str, str]:
    """Reasons that more than two runs have, each with the mark by which the table names it; they are said below it, once."""
    counted = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    several = [reason for reason, number in counted.items() if number > 2]
    return {reason: f"({number})" for number, reason in enumerate(several, start=1)}


def _table(outcomes: list[Outcome], names: dict[int, str], shared: Mapping[str, str]) -> RichTable:
    table = RichTable(*table_columns(("run", "seed", "status", "key", "minutes", "why"), ("run", "status", "key", "why")))
    for outcome in outcomes:
        colour = "green" if outcome.status in GOOD else "red"
        log = outcome.log if Path(outcome.log).is_file() else ""
        why = shared.get(outcome.reason, outcome.reason) + (f"\n{log}" if outcome.reason and log else "")
        minutes = f"{outcome.seconds / 60:.1f}"
        table.add_row(names[id(outcome)], str(outcome.seed), Text(outcome.status, colour), outcome.key, minutes, why)
    return table
