"""A sweep as it was typed: its folder, study, command and jobs."""

import hashlib
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace
from omegaconf import DictConfig, OmegaConf

from exfuse.config import search_path
from exfuse.errors import ConfigError
from exfuse.store.checked import read_json
from exfuse.store.grouping import COLUMN, GroupRule
from exfuse.store.study_file import FILE as STUDY_FILE, SCHEMA, StudyFile, check_place
from exfuse.sweeps.declared import DeclaredStudy, read_study
from exfuse.sweeps.stages import Plan
from exfuse.sweeps.tuning import Job, overridden_key
from exfuse.sweeps.watching import Planned


@dataclass
class Sweep:
    """What the parent of a sweep knows of it.

    Attributes:
        folder: of its outcomes and logs.
        study: that its runs make.
        output: the study's folder as typed; None for one of its own.
        command: that starts it again, without what holds for one start alone.
        mixed: whether its rows may differ in settings, and are marked.
        waits: whether runs that are not there are trained, or waited for.
        queued: whether its jobs outlive this process.
        tabulates: whether its runs are segmentations, which make a table.
        jobs: as typed, before any search.
        going_on: tells those who watch, until it is closed.
        plan: made with the first jobs.
        tell: says how many jobs there are.
    """

    folder: Path
    study: DeclaredStudy
    output: Path | None
    command: str
    mixed: bool
    waits: bool
    queued: bool
    tabulates: bool
    jobs: list[Job]
    going_on: ExitStack
    plan: Plan | None = None
    tell: Callable[[Planned], None] | None = None

    @property
    def place(self) -> Path:
        """Where its study goes, unless another lies there."""
        return self.output or Path("outputs/studies") / self.study.name


_TOLD = ("parallel", "missing", "output", "known", "mixed", "hung", "timeout")
_OF_THIS_START = ("paths.", *(f"sweep.{name}" for name in _TOLD))
running: list[Sweep] = []  # at most one: Hydra hands its callbacks nothing that the caller could get back


def read_sweep(config: DictConfig, tabulates: bool, jobs: Sequence[Job] = ()) -> Sweep:
    """The sweep that Hydra's composed ``config`` describes, with ``jobs`` as they were split.

    Raises:
        UserError: if what is said of the study is none, or its folder is somebody else's.
    """
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
    if (known := config.sweep.get("known")) is not None:
        file = Path(str(known)) / STUDY_FILE
        if not file.is_file():
            raise ConfigError(f"sweep.known={known}: expected a study's folder, with its {STUDY_FILE}.")
        read_json(file, StudyFile, "a whole study", "Copy it anew.", SCHEMA)
    sweep = Sweep(
        folder=Path(hydra.sweep.dir),
        study=replace(named, groups=named.groups or _groups(config)),
        output=Path(typed_output) if typed_output else None,
        command=shlex.join([*_started(command, "study" in config), *search_path.folders_as_typed()]),
        mixed=config.sweep.mixed or "study" not in config,  # a multirun may well sweep a setting; its table marks it
        waits=config.sweep.missing != "skip",
        queued="slurm" in str(hydra.launcher._target_).lower(),  # its jobs outlive this process
        tabulates=tabulates,
        jobs=jobs,
        going_on=ExitStack(),
    )
    check_place(sweep.place)
    return sweep


def _groups(config: DictConfig) -> GroupRule | None:
    """What the data say now of images that are not independent: it holds for runs that were trained before it was said, too."""
    data = config.get("data") or {}
    by = data.get("groups")
    return None if by in (None, COLUMN) else GroupRule(by, data.get("ordered", False))


def _started(command: str, of_study: bool) -> list[str]:
    """The words that start it: of a sweep that no study declares with what says that it is one."""
    exfuse, verb, *overrides = shlex.split(command)
    return [exfuse, verb, *([] if of_study else ["-m"]), *overrides]


def _command(verb: str, overrides: Sequence[str]) -> str:
    """As a user types it, without where things lie and what only this start was told."""
    kept = [override for override in overrides if not overridden_key(override).startswith(_OF_THIS_START)]
    return shlex.join(["exfuse", verb, *kept])
