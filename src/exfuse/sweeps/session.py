"""The parent of a sweep: it starts its jobs stage by stage, each following from how the earlier ones ended."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from exfuse.config.overrides import without_hydra
from exfuse.config.read import describe, describe_pretraining
from exfuse.errors import ConfigError, plural, repeated
from exfuse.process import SWEEP
from exfuse.runs.micro_batch import AUTO, images_of, settle
from exfuse.store.description import RunDescription
from exfuse.store.key import count_devices
from exfuse.store.outcome import Outcome, forget_outcomes
from exfuse.store.sequential import Sequential
from exfuse.sweeps.collect import collect_study
from exfuse.sweeps.declared import declared_name, split
from exfuse.sweeps.ending import settled
from exfuse.sweeps.parallel import SideBySide, at_once
from exfuse.sweeps.rows import check_rows, check_variants
from exfuse.sweeps.sequential import Additions, Save, pairs_of
from exfuse.sweeps.stages import Plan, row_and_seed
from exfuse.sweeps.study_folder import looked_at, study_folder
from exfuse.sweeps.supervisor import plan_folder, row_name
from exfuse.sweeps.sweep import read_sweep, running
from exfuse.sweeps.tuning import Job, overridden_key
from exfuse.sweeps.watching import Planned, sweeping, watched
from exfuse.terminal import Console

Plugins.instance()  # its first look runs its modules anew: a class taken from one of them before is no longer its own
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

_PARTS = "runtime.micro_batch"
_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"


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
        sweep = read_sweep(config, self.tabulates, split(self.params, config.hydra.overrides.task, parser))
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
        running[:] = [sweep]
        sweep.tell = sweep.going_on.enter_context(sweeping(folder))
        os.environ[SWEEP] = sweep.place.name  # trackers show the runs as those of this sweep
        sweep.going_on.callback(os.environ.pop, SWEEP, None)
        if here and most > 1:
            assert self.launcher is not None
            self.launcher = SideBySide(self.launcher, most, partial(watched, folder))
            self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def is_done(self) -> bool:
        """Whether no stage follows; makes the next one."""
        sweep, console = running[-1], Console()
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
            ended = {outcome.job: outcome for outcome in settled(sweep, console)}
            answer = [ended[job] for job in range(self._started, self._started + len(self._batch))]
            self._started += len(self._batch)
        try:
            self._batch = next(self._stages) if answer is None else self._stages.send(answer)
        except StopIteration:
            return True
        if sweep.tell:
            known = self._started + len(self._batch) + sweep.plan.to_come(self._batch)
            sweep.tell(Planned(known, sweep.plan.longer, str(sweep.place)))
        return False

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The jobs of the next stage."""
        return self._batch

    def _additions(self, rows: list[list[str]], seeds: list[int], plan: Plan) -> tuple[Additions, list[str], Save]:
        """How seeds are added to a sequential study, its rows' names, and what writes its folder after each look."""
        sweep, runs = running[-1], [self._describe([*row, f"seed={seeds[0]}"]) for row in rows]
        assert runs[0].sweep is not None
        declared = sweep.study.rows
        names = [declared_name(declared, run.choices, row_name(run)) for run in runs]
        if twice := repeated(names):
            raise ConfigError(f"sweep.until=decided: two rows are called {twice[0]}. Sweep variants and seeds alone.")
        builds_on = {name: row.builds_on if (row := declared.get(name)) else None for name in names}
        usual = dict.fromkeys(names, "baseline")
        folder = sweep.place
        earlier = looked_at(folder, [plan_folder(settle(run)).key for run in runs])
        excluded = [plan.search.declared.seed] if plan.search else []
        pairs = pairs_of(names, builds_on if declared else usual)
        alone = [name for name in names if not any(name in pair for pair in pairs)]
        additions = Additions(pairs, seeds, runs[0].sweep, excluded, earlier, sweep.study.groups, alone)

        def save(found: list[Outcome], sequential: Sequential) -> None:
            plan.sequential = sequential
            output = study_folder(sweep, found)
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
