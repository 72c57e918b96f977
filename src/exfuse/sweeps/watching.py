"""How far the runs of a sweep are, from the files that its jobs leave: rows by seeds, what failed, and the time left."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from filelock import FileLock, Timeout
from rich.console import Group
from rich.live import Live
from rich.text import Text

from exfuse.errors import UserError
from exfuse.files import is_locked
from exfuse.store.checked import read_plain, write_sealed_json
from exfuse.store.outcome import BUSY, GOOD, MISSING, STARTED, WAITING, Outcome, read_outcomes
from exfuse.store.record import INTERRUPTED
from exfuse.store.study_file import FILE as STUDY_FILE
from exfuse.sweeps.collect import swept_besides
from exfuse.terminal import Console, RichTable, table_columns

_EVERY = 1.0  # seconds between two looks
_OPEN = (WAITING, STARTED)
_CUT = (INTERRUPTED, MISSING)  # nobody is at them; the same command goes on
_LOCK, _PLANNED = "sweep.lock", "sweep.json"  # held by the process that sweeps; how many jobs it has so far
_SHARE = 0.05  # of a training, from which on it tells how long it will take


class Planned(NamedTuple):
    """What is known of a sweep's jobs before they have begun.

    Attributes:
        jobs: how many there are, those included that follow a search.
        longer: how many times as long as a run of the search one of those takes.
        study: the folder of its table, as seen from where it was started.
    """

    jobs: int = 0
    longer: float = 1.0
    study: str = ""


_UNKNOWN = Planned()


def watch(sweep: str | None) -> None:
    """Show a sweep of this folder until it has ended; in a pipe once.

    Args:
        sweep: its folder, or that of the study whose latest sweep it is; None for the latest of all.

    Raises:
        UserError: if there is none.
    """
    folder = _latest() if sweep is None else Path(sweep)
    folder = folder if read_outcomes(folder) else _of_study(folder)
    console = Console()
    console.print(f"{folder}", highlight=False, soft_wrap=True)
    if not console.is_terminal:
        _show(console.print, folder)
        return

    def ended() -> bool:
        goes_on = is_swept(folder) or any(one.status in _OPEN and one.is_held() for one in read_outcomes(folder))
        if goes_on:
            time.sleep(_EVERY)
        return not goes_on

    _show_live(console, folder, None, ended)


@contextmanager
def sweeping(sweep: Path) -> Iterator[Callable[[Planned], None]]:
    """Tell whoever watches ``sweep`` that it goes on, as long as this lasts; what is yielded takes what is planned."""
    sweep.mkdir(parents=True, exist_ok=True)
    lock = FileLock(sweep / _LOCK)
    with suppress(Timeout):  # somebody else's, who tells it as well
        lock.acquire(blocking=False)
    try:
        yield lambda planned: write_sealed_json(sweep / _PLANNED, planned._asdict())
    finally:
        lock.release()


def is_swept(sweep: Path) -> bool:
    """Whether a process is at it, though none of its jobs may have begun."""
    return is_locked(sweep / _LOCK)


@contextmanager
def watched(sweep: Path, runs: int) -> Iterator[None]:
    """Show the jobs of ``sweep``, of which so many are trained at once, while this lasts; without a terminal a line each."""
    console, ended = Console(), threading.Event()
    over = {one.job for one in read_outcomes(sweep) if one.status not in _OPEN}  # in stages before this one
    show = _show_live if console.is_terminal else partial(_tell, over=over)
    thread = threading.Thread(target=show, args=(console, sweep, runs, partial(ended.wait, _EVERY)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def view(outcomes: Sequence[Outcome], runs: int = 1, planned: Planned = _UNKNOWN) -> Group:
    """Rows by seeds, or in a search by what is tried: epochs, the last score, or how a run ended; see `summary`."""
    search = [one for one in outcomes if is_of_search(one)]
    finals = [one for one in outcomes if one not in search]
    tried = [" ".join(map(_last_name, besides)) for besides in _besides(search)]
    named = names_of(outcomes)
    grids = [
        _grid("search", [(one.row, value, one) for one, value in zip(search, tried, strict=True)]),
        _grid("run", [(named[id(one)], f"seed {one.seed}", one) for one in finals]),
    ]
    failed = [one for one in outcomes if one.status not in (*_OPEN, *GOOD, BUSY)]
    reasons = [Text(f"{named[id(one)]}, seed {one.seed}: {one.status}. {one.reason}", "red") for one in failed[-1:]]
    return Group(*(grid for grid in grids if grid.row_count), *reasons, Text(summary(outcomes, runs, planned)))


def names_of(outcomes: Sequence[Outcome]) -> dict[int, str]:
    """Of each job, by its identity, its row and what other jobs of it do not share, seeds aside; of a search what it tries."""
    groups = [[one for one in outcomes if is_of_search(one) == searched] for searched in (True, False)]
    return {
        id(one): " ".join([one.row, *besides]) for group in groups for one, besides in zip(group, _besides(group), strict=True)
    }


def is_of_search(one: Outcome) -> bool:
    return any(override.startswith("held_out.share=") for override in one.overrides)


def _besides(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Of each job what jobs of its row do not share: what a search tries, or what was swept besides variants and seeds."""
    found: dict[int, list[str]] = {}
    for row in dict.fromkeys(one.row for one in outcomes):
        jobs = [one for one in outcomes if one.row == row]
        found |= {id(one): besides for one, besides in zip(jobs, swept_besides(jobs), strict=True)}
    return [found[id(one)] for one in outcomes]


def _last_name(override: str) -> str:
    """``lr=0.003`` for ``recipe.lr=0.003``: what a narrow column has room for."""
    key, sign, value = override.partition("=")
    return f"{key.rpartition('.')[2]}{sign}{value}"


def _grid(title: str, cells: Sequence[tuple[str, str, Outcome]]) -> RichTable:
    rows, heads = (
        (list(dict.fromkeys(names)) for names in zip(*((row, head) for row, head, _ in cells), strict=True))
        if cells
        else ([], [])
    )
    found = {(row, head): one for row, head, one in cells}
    table = RichTable(*table_columns([title, *heads], [title]), box=None, pad_edge=False)
    for row in rows:
        table.add_row(row, *(_cell(found.get((row, head))) for head in heads))
    return table


def summary(outcomes: Sequence[Outcome], runs: int = 1, planned: Planned = _UNKNOWN) -> str:
    """How many runs ended, how many are trained, and about how long the rest takes.

    Args:
        outcomes: of the jobs that have one.
        runs: at a time.
        planned: of all jobs, as far as that is known.
    """
    number = max(planned.jobs, len(outcomes))
    over = sum(one.status not in (*_OPEN, *_CUT) for one in outcomes)
    cut = [f", {count} {status}" for status in _CUT if (count := sum(one.status == status for one in outcomes))]
    trained = sum(one.status == STARTED and one.progress is not None for one in outcomes)
    left = seconds_left(outcomes, runs, planned)
    ended = over == number or (bool(cut) and not any(one.status in _OPEN for one in outcomes))  # nobody goes on with the rest
    time_left = "" if left is None or ended else f", about {_duration(left)} left"
    return f"{over} of {number} ended, {trained} in training{''.join(cut)}{time_left}"


def seconds_left(outcomes: Sequence[Outcome], runs: int, planned: Planned = _UNKNOWN, now: float | None = None) -> float | None:
    """Seconds until all are over, ``runs`` at a time, by what runs of the same row, or of its search, took or will take.

    None while nothing is known. A row of which nothing is known yet, or a job, is taken for the mean of the others.
    """
    now = time.time() if now is None else now
    took: dict[tuple[str, bool], list[float]] = {}
    for one in outcomes:
        if one.status == "done":
            took.setdefault((one.row, is_of_search(one)), []).append(one.seconds)
        elif one.status == STARTED and (share := _share(one, one.before)) > _SHARE:
            took.setdefault((one.row, is_of_search(one)), []).append((now - one.began) / share)
    if not took:
        return None
    means: dict[bool, list[float]] = {True: [], False: []}
    for (_, searched), seconds in took.items():
        means[searched].append(mean(seconds))
    usual = {
        True: mean(means[True] or [seconds / planned.longer for seconds in means[False]]),
        False: mean(means[False] or [seconds * planned.longer for seconds in means[True]]),
    }
    rest = [
        mean(took.get((one.row, searched := is_of_search(one)), [usual[searched]]))
        * (1 - (_share(one) if one.status == STARTED else 0))
        for one in outcomes
        if one.status in _OPEN
    ]
    rest += [usual[False]] * (planned.jobs - len(outcomes))
    return max([sum(rest) / max(1, runs), *rest], default=0.0)


def _share(one: Outcome, since: float = 0.0) -> float:
    """Of a run's epochs that are over; what it starts from, such as a backbone, may have to be made before the first."""
    return min(1.0, (one.progress.epoch - since) / max(1, one.progress.epochs)) if one.progress and not one.progress.of else 0.0


def _cell(one: Outcome | None) -> Text:
    if one is None:
        return Text("")
    if one.status in GOOD:
        record = one.record()
        return Text(f"{100 * record.scores.miou:.1f} %" if record and record.scored else "done", "green")
    if one.status == STARTED:
        if one.progress is None:
            return Text("starts" if one.began else "·")
        score = "" if one.progress.score is None else f", {100 * one.progress.score:.1f} %"
        of = f"{one.progress.of}, " if one.progress.of else ""
        return Text(f"{of}epoch {int(one.progress.epoch) + 1} of {one.progress.epochs}{score}", "cyan")
    return Text("·" if one.status == WAITING else one.status, "" if one.status in (WAITING, BUSY) else "red")


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _show(show: Callable[[Group], None], sweep: Path, runs: int | None = None) -> None:
    """The sweep as it is now; without ``runs`` as many are trained at once as have begun."""
    outcomes = _outcomes(sweep)
    begun = sum(one.status == STARTED and one.began > 0 for one in outcomes)
    show(view(outcomes, begun if runs is None else runs, _planned(sweep)))


def _outcomes(sweep: Path) -> list[Outcome]:
    """As `read_outcomes`, but that what nobody is at any more does not go on."""
    outcomes = read_outcomes(sweep)
    if not is_swept(sweep):
        for one in outcomes:
            if one.status in _OPEN and not one.is_held():
                one.status = INTERRUPTED if one.status == STARTED and one.began else MISSING
                one.reason = one.reason or "the same command goes on"
    return outcomes


def _planned(sweep: Path) -> Planned:
    path = sweep / _PLANNED
    if not path.is_file():
        return _UNKNOWN
    told = read_plain(path, "how many jobs a sweep has", "Start the sweep again.")
    return Planned(told["jobs"], told.get("longer", 1.0), told.get("study", ""))


def _show_live(console: Console, sweep: Path, runs: int | None, ended: Callable[[], bool]) -> None:
    with Live(console=console, auto_refresh=False) as live:
        show = partial(live.update, refresh=True)
        while not ended():
            _show(show, sweep, runs)
        _show(show, sweep, runs)


def _tell(console: Console, sweep: Path, runs: int, ended: Callable[[], bool], over: Collection[int] = ()) -> None:
    """A line for each run that starts or ends, but for those that were over before."""
    told: dict[int, str] = {}
    while True:
        last = ended()
        outcomes = read_outcomes(sweep)
        names = names_of(outcomes)
        for one in outcomes:
            state = one.status if one.status != STARTED else "starts" if one.began else WAITING
            if one.job not in over and state != told.setdefault(one.job, WAITING if state in ("starts", "done") else state):
                told[one.job] = state
                cell = _cell(one).plain if one.status in GOOD else state
                line = f"{names[id(one)]}, seed {one.seed}: {cell}; {summary(outcomes, runs, _planned(sweep))}"
                console.print(line, highlight=False, soft_wrap=True)
        if last:
            return


def _sweeps() -> list[Path]:
    """Those of this folder, the latest last."""
    return sorted((path.parent for path in Path("outputs/sweeps").glob("*/jobs")), key=lambda path: path.stat().st_mtime)


def _of_study(folder: Path) -> Path:
    """The latest sweep whose table is in ``folder``; else, since that may have been copied here, with a run of its rows."""
    file = folder / STUDY_FILE
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    sweeps = [*reversed(_sweeps())]
    of_it = (sweep for sweep in sweeps if (study := _told_study(sweep)) and Path(study).resolve() == folder.resolve())
    alike = (sweep for sweep in sweeps if any(one.key and one.key in text for one in _readable(sweep)))
    if (found := next(of_it, None) or next(alike, None)) is not None:
        return found
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder. exfuse study watch alone shows the latest sweep.")
    raise UserError(
        f"{folder}: there are no jobs of a sweep. exfuse study watch FOLDER, one of those in outputs/sweeps or a study's that "
        "was swept from here."
    )


def _readable(sweep: Path) -> list[Outcome]:
    """Its outcomes; none where one is damaged, which whoever asks for this very sweep is told."""
    with suppress(UserError):
        return read_outcomes(sweep)
    return []


def _told_study(sweep: Path) -> str:
    """Where its table goes, in the same way."""
    with suppress(UserError):
        return _planned(sweep).study
    return ""


def _latest() -> Path:
    found = _sweeps()
    if not found:
        raise UserError("outputs/sweeps: no sweep was started in this folder. exfuse train +study=NAME starts one.")
    return found[-1]
