"""The parent of a sweep: it starts its jobs stage by stage, says at its end what ran and why not, and tabulates the study."""

import hashlib
import os
import shlex
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, TaskFunction
from msgspec.structs import replace
from omegaconf import DictConfig, OmegaConf
from rich.text import Text

from exfuse.config import search_path
from exfuse.config.overrides import without_hydra
from exfuse.config.read import describe, describe_pretraining
from exfuse.errors import ConfigError, UserError, complain, plural, repeated, user_error
from exfuse.process import SWEEP
from exfuse.runs.micro_batch import AUTO, images_of, settle
from exfuse.store.checked import read_plain
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder, find_runs
from exfuse.store.grouping import COLUMN, GroupRule
from exfuse.store.key import count_devices
from exfuse.store.outcome import BUSY, ELSEWHERE, GOOD, MISSING, STARTED, Outcome, forget_outcomes, read_outcomes
from exfuse.store.record import INTERRUPTED
from exfuse.store.sequential import Sequential
from exfuse.store.study_file import FILE as STUDY_FILE, RECORDS, check_place, load_sequential
from exfuse.sweeps.collect import collect_study
from exfuse.sweeps.parallel import SideBySide, at_once
from exfuse.sweeps.rows import DeclaredStudy, check_rows, check_variants, declared_name, read_study, split
from exfuse.sweeps.sequential import Additions, Save, pairs_of
from exfuse.sweeps.stages import Plan, row_and_seed
from exfuse.sweeps.supervisor import plan_folder, row_name
from exfuse.sweeps.tuning import Job, overridden_key
from exfuse.sweeps.watching import Planned, is_of_search, names_of, sweeping, watched
from exfuse.terminal import Console, RichTable, table_columns

Plugins.instance()  # its first look runs its modules anew: a class taken from one of them before is no longer its own
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402


@dataclass
class _Sweep:
    folder: Path
    study: DeclaredStudy
    output: Path | None
    command: str
    mixed: bool
    waits: bool
    queued: bool
    tabulates: bool
    jobs: list[Job]
    going_on: ExitStack  # tells those who watch, until it is closed
    plan: Plan | None = None  # made with the first jobs
    tell: Callable[[Planned], None] | None = None


_TOLD = ("parallel", "missing", "output", "known", "mixed", "hung", "timeout")
_OF_THIS_START = ("paths.", *(f"sweep.{name}" for name in _TOLD))
_PARTS = "runtime.micro_batch"
_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"
_running: list[_Sweep] = []  # at most one: Hydra hands its callbacks nothing that the caller could get back


class SweepWatch(Callback):
    """Hydra's callback by which the parent puts its own sweeper in the place of Hydra's.

    Args:
        tabulates: whether the runs are segmentations, which make a table.
    """

    def __init__(self, tabulates: bool) -> None:
        self.tabulates = tabulates

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002 - the argument is passed by name
        """Nothing here may fail: Hydra turns what a callback raises into a warning."""
        Plugins.instance().class_name_to_class[_SWEEPER] = StagedSweeper
        StagedSweeper.tabulates = self.tabulates


class StagedSweeper(BasicSweeper):
    """Hydra's own sweeper, in whose place it works: with jobs that follow from how earlier ones ended."""

    tabulates: ClassVar[bool]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Learn where the sweep lies and which study it is.

        Raises:
            UserError: if what is said of the study is none, or its folder is somebody else's.
        """
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        folder = Path(config.hydra.sweep.dir)
        forget_outcomes(folder)
        parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        sweep = _read_sweep(config, self.tabulates, split(self.params, config.hydra.overrides.task, parser))
        # Before hours go into the first of them, a mistake in the last is said.
        rows = _firsts(sweep.jobs, lambda key: key != "seed")
        seeds = [job for job in _firsts(sweep.jobs, lambda key: key == "seed") if job not in rows]
        of_overrides = sweep.study.overrides and self.tabulates
        described = check_rows(sweep.study, rows, self._describe) if of_overrides else [self._describe(job) for job in rows]
        if sweep.study.rows and self.tabulates and not of_overrides:
            check_variants(sweep.study, rows, [(row_name(run), run) for run in described])
        described += [self._describe(job) for job in seeds]
        here = config.hydra.launcher._target_.endswith("BasicLauncher")
        most = _at_once(described[0]) if here else 1
        if together := [one for one in described if one.runtime.micro_batch == AUTO]:
            if sweep.queued:
                raise ConfigError(f"{_PARTS}=auto asks this machine, and SLURM starts the runs on others: say a number.")
            images = images_of(together, most if here else _elsewhere(config))
            sweep.jobs = [_with_images(job, images) for job in sweep.jobs]
            Console().print(f"{plural(images, 'image')} at once in all runs ({_PARTS}=auto).", highlight=False)
        _running[:] = [sweep]
        sweep.tell = sweep.going_on.enter_context(sweeping(folder))
        os.environ[SWEEP] = _place(sweep.study, sweep.output).name  # trackers show the runs as those of this sweep
        sweep.going_on.callback(os.environ.pop, SWEEP, None)
        if here and most > 1:
            assert self.launcher is not None
            self.launcher = SideBySide(self.launcher, most, partial(watched, folder))
            self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def is_done(self) -> bool:
        """Whether no stage follows; makes the next one."""
        sweep, console = _running[-1], Console()
        if sweep.plan is None:
            tune = sweep.study.tune if sweep.tabulates else None
            usual = self.config.get("seed", 0) if self.config else 0
            until = bool(self.config and "sweep" in self.config and self.config.sweep.until)
            jobs = sorted(sweep.jobs, key=lambda job: row_and_seed(job, usual)[1])  # soon there is a table of all rows
            sweep.plan = Plan(jobs, tune, usual, self._describe, self._additions if until else None)
            self._started, self._batch = 0, list[list[str]]()
            self._stages = sweep.plan.stages(console)
            answer: list[Outcome] | None = None
        else:
            ended = {outcome.job: outcome for outcome in _settled(sweep, console)}
            answer = [ended[job] for job in range(self._started, self._started + len(self._batch))]
            self._started += len(self._batch)
        try:
            self._batch = next(self._stages) if answer is None else self._stages.send(answer)
        except StopIteration:
            return True
        if sweep.tell:
            known = self._started + len(self._batch) + sweep.plan.to_come(self._batch)
            sweep.tell(Planned(known, sweep.plan.longer, str(_place(sweep.study, sweep.output))))
        return False

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The jobs of the next stage."""
        return self._batch

    def _additions(self, rows: list[list[str]], seeds: list[int], plan: Plan) -> tuple[Additions, list[str], Save]:
        """How seeds are added to a sequential study, its rows' names, and what writes its folder after each look."""
        sweep, runs = _running[-1], [self._describe([*row, f"seed={seeds[0]}"]) for row in rows]
        assert runs[0].sweep is not None
        declared = sweep.study.rows
        names = [declared_name(declared, run.choices, row_name(run)) for run in runs]
        if twice := repeated(names):
            raise ConfigError(f"sweep.until=decided: two rows are called {twice[0]}. Sweep variants and seeds alone.")
        builds_on = {name: row.builds_on if (row := declared.get(name)) else None for name in names}
        usual = dict.fromkeys(names, "baseline")
        folder = _place(sweep.study, sweep.output)
        earlier = _looked_at(folder, [plan_folder(settle(run)).key for run in runs])
        excluded = [plan.search.declared.seed] if plan.search else []
        pairs = pairs_of(names, builds_on if declared else usual)
        alone = [name for name in names if not any(name in pair for pair in pairs)]
        additions = Additions(pairs, seeds, runs[0].sweep, excluded, earlier, sweep.study.groups, alone)

        def save(found: list[Outcome], sequential: Sequential) -> None:
            plan.sequential = sequential
            output = _study_folder(sweep, found)
            collect_study(found, sweep.study, sweep.command, sweep.mixed, output, plan.search, sequential, whole=False)

        return additions, names, save

    def _describe(self, overrides: Sequence[str]) -> Any:
        """The run or pretraining of a job, composed as Hydra will."""
        assert self.hydra_context is not None
        assert self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, [*overrides])
        return (describe if self.tabulates else describe_pretraining)(*without_hydra(config))


def _firsts(jobs: Sequence[Job], counts: Callable[[str], bool]) -> list[Job]:
    """Of jobs that are alike in all overrides whose keys count, the first."""
    found = dict[tuple[str, ...], Job]()
    for job in jobs:
        found.setdefault(tuple(one for one in job if counts(overridden_key(one))), job)
    return [*found.values()]


def _with_images(job: Job, images: int) -> Job:
    """The job with so many images at once in the place of ``auto``; one that says a number itself keeps it."""
    typed = [one for one in job if overridden_key(one) == _PARTS]
    if typed and typed[-1].partition("=")[2] != AUTO:
        return job
    return [*(one for one in job if one not in typed), f"{_PARTS}={images}"]


def _at_once(run: RunDescription) -> int:
    """How many runs like this one are trained at the same time."""
    trainer, sweep = run.trainer, run.sweep
    alone = count_devices(trainer.devices) != 1 or trainer.num_nodes != 1
    return at_once(sweep.parallel if sweep else "auto", trainer.accelerator, alone)


def _elsewhere(config: DictConfig) -> int:
    """How many runs another launcher than Hydra's own may train at the same time on a machine: as many as it says, or fit."""
    said = OmegaConf.select(config, "hydra.launcher.n_jobs")
    if isinstance(said, int) and said > 0:
        return said
    return at_once("auto", str(OmegaConf.select(config, "trainer.accelerator")), alone=False)


def _read_sweep(config: DictConfig, tabulates: bool, jobs: Sequence[Job] = ()) -> _Sweep:
    hydra = config.hydra
    command = _command(hydra.job.config_name, hydra.overrides.task)
    own = f"multirun-{hashlib.sha256(command.encode()).hexdigest()[:8]}"  # the same command finds it again
    whole = config.study if "study" in config else {"name": own, "title": "Multirun"}
    if config.sweep is None:
        raise ConfigError("sweep=null: expected its settings, such as sweep.parallel=1.")
    named, jobs = read_study(whole, jobs, OmegaConf.select(config, "hydra.runtime.choices.study"))
    typed_output = config.sweep.output
    if not isinstance(typed_output, (str, type(None))):
        raise ConfigError(f"sweep.output={typed_output}: expected the path of a folder; quote a number: sweep.output='\"3\"'.")
    output = Path(typed_output) if typed_output else None
    check_place(_place(named, output))
    if (known := config.sweep.get("known")) is not None and not (Path(str(known)) / STUDY_FILE).is_file():
        raise ConfigError(f"sweep.known={known}: expected a study's folder, with its {STUDY_FILE}.")
    return _Sweep(
        folder=Path(hydra.sweep.dir),
        study=replace(named, groups=named.groups or _groups(config)),
        output=output,
        command=shlex.join([*shlex.split(command), *search_path.folders_as_typed()]),
        mixed=config.sweep.mixed or "study" not in config,  # a multirun may well sweep a setting; its table marks it
        waits=config.sweep.missing != "skip",
        queued="slurm" in str(hydra.launcher._target_).lower(),  # its jobs outlive this process
        tabulates=tabulates,
        jobs=jobs,
        going_on=ExitStack(),
    )


def _settled(sweep: _Sweep, console: Console) -> list[Outcome]:
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
    if not _running:
        return 0
    sweep, console = _running.pop(), Console()
    sweep.going_on.close()
    outcomes = read_outcomes(sweep.folder) if error else _settled(sweep, console)
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
    with (
        console.status(f"{outcome.row}, seed {outcome.seed}: waiting for the sweep that trains it"),
        outcome.folder.locked(lambda: None),
    ):
        finished = outcome.folder.finished()
    outcome.status, outcome.reason = (ELSEWHERE, "") if finished else (INTERRUPTED, "the other sweep did not finish it")


def _groups(config: DictConfig) -> GroupRule | None:
    """What the data say now of images that are not independent: it holds for runs that were trained before it was said, too."""
    data = config.get("data") or {}
    by = data.get("groups")
    return None if by in (None, COLUMN) else GroupRule(by, data.get("ordered", False))


def _tabulate(sweep: _Sweep, outcomes: list[Outcome], console: Console) -> bool:
    from exfuse.analysis.rendering import render_study  # loads only once there is something to show

    try:
        output = _study_folder(sweep, outcomes)
        search = sweep.plan.search if sweep.plan else None
        sequential = sweep.plan.sequential if sweep.plan else None
        changed = collect_study(outcomes, sweep.study, sweep.command, sweep.mixed, output, search, sequential)
        render_study(output, console, redraw=changed)
    except UserError as error:
        complain(str(error))
        return False
    return True


def _study_folder(sweep: _Sweep, outcomes: Sequence[Outcome]) -> Path:
    """Where the study goes: as typed, or its own folder, or one beside that if it holds the table of other runs.

    The same command on the same data is the same study, whatever became of its runs; where they lie changes nothing.

    Raises:
        UserError: if the folder that was typed holds finished runs of another sweep, or its looks, which would leave it.
    """
    folder = _place(sweep.study, sweep.output)
    before, keys = folder / STUDY_FILE, {outcome.key for outcome in outcomes}
    if not before.is_file():
        return folder
    known = read_plain(before, "a study", f"Delete {folder}, or set sweep.output to another folder.")
    looked = bool((known.get("sequential") or {}).get("looks")) and not (sweep.plan and sweep.plan.sequential)
    if not looked and {path.name for path in folder.glob(f"{RECORDS}/*")} <= keys:
        return folder
    now = _data(outcome.folder for outcome in outcomes if outcome.key)
    then = _data(find_runs(folder / RECORDS))
    same = _unspent(str(known.get("command", ""))) == _unspent(sweep.command)
    if same and (then & now or not (then and now)):
        return folder
    if sweep.output:
        lost = any(run.key not in keys and (record := run.record()) and record.done for run in find_runs(folder / RECORDS))
        if looked or lost:
            kept = "whose looks count in its p" if looked else "with finished runs that this one does not have"
            raise UserError(
                f"{folder} holds the table of another sweep, {known.get('command')}, {kept}. Choose another sweep.output, or "
                "delete it."
            )
        return folder
    own = _unspent(sweep.command) + (f" {sorted(now)}" if same else "")
    return folder.with_name(f"{folder.name}-{hashlib.sha256(own.encode()).hexdigest()[:8]}")


def _looked_at(folder: Path, keys: Sequence[str]) -> Sequential | None:
    """How far an earlier start with these runs was, in the study's folder or one beside it, see `_study_folder`."""
    places = [folder, *sorted(folder.parent.glob(f"{folder.name}-{'[0-9a-f]' * 8}"))]
    known = (load_sequential(place) for place in places if any((place / RECORDS / key).is_dir() for key in keys))
    return next(filter(None, known), None)


def _unspent(command: str) -> str:
    """A sweep's command without what it may spend, which may be raised."""
    return shlex.join(word for word in shlex.split(command) if not overridden_key(word).startswith("sweep.most"))


def _place(study: DeclaredStudy, output: Path | None) -> Path:
    return output or Path("outputs/studies") / study.name


def _data(runs: Iterable[RunFolder]) -> set[str]:
    """Manifests of the images that runs are scored on."""
    records = (run.record() for run in runs)
    return {record.manifests["val"] for record in records if record and "val" in record.manifests}


def _command(verb: str, overrides: Sequence[str]) -> str:
    """As a user types it, without where things lie and what only this start was told."""
    kept = [override for override in overrides if not overridden_key(override).startswith(_OF_THIS_START)]
    return shlex.join(["exfuse", verb, *kept])


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
