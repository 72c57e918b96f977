"""One job of a sweep: known without torch, skipped if it is done, else trained in a process of its own to a recorded end."""

import functools
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from msgspec.structs import replace
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from exfuse.composition.reading import read_labelled_split, read_split
from exfuse.data.labelled import LabelledSplit
from exfuse.errors import ConfigError, user_error
from exfuse.runs.backbone_key import find_folder
from exfuse.runs.plan import plan_run
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import BUSY, MISSING, SKIPPED, Outcome
from exfuse.store.record import DONE, FAILED, INTERRUPTED, KILLED, RUNNING, Record
from exfuse.store.variants import USUAL_DECODER, chosen_options, label
from exfuse.sweeps.child import Ended, run_child

Plan = Callable[[DictConfig], RunFolder]


def plan_training(config: DictConfig) -> RunFolder:
    """The folder of a segmentation run; splits are read once per process, not once per job."""
    data = _parts(config, ["data"])
    return plan_run(config, lambda _, split: _read_once(read_split, data, split), _labelled_reader(config)).folder


def plan_pretraining(config: DictConfig) -> RunFolder:
    """The folder of a backbone."""
    return find_folder(config, _labelled_reader(config))[0]


def supervise(verb: str, config: DictConfig, chosen: dict[str, str], plan: Plan) -> None:
    """Bring one job of a multirun to its end and write its outcome. Whatever goes wrong with the run, nothing is raised.

    Args:
        verb: ``train`` or ``pretrain``.
        config: of the single run.
        chosen: the option of each config group.
        plan: finds the run's folder without torch.

    Raises:
        ConfigError: if ``sweep.missing`` is no choice, before anything starts.
        KeyboardInterrupt: after Ctrl-C, which ends the sweep.
    """
    if config.sweep.missing not in ("train", "skip"):
        raise ConfigError(f"sweep.missing={config.sweep.missing}: expected train or skip.")
    hydra = HydraConfig.get()
    os.chdir(hydra.runtime.cwd)  # a launcher's worker may stand elsewhere
    started, sweep = time.perf_counter(), Path(hydra.sweep.dir)
    overrides = list(hydra.overrides.task)
    outcome = Outcome(int(hydra.job.num), overrides, row_name(overrides, chosen), config.seed, chosen)
    outcome.write(sweep)
    # Terminal output of jobs that run side by side would be a jumble.
    in_process = hydra.launcher._target_.endswith("BasicLauncher")
    log = None if in_process else sweep / f"job_{outcome.job}.log"
    outcome.log = str(log or "")
    interrupted = False
    with _always_written(outcome, sweep, started):
        folder = plan(config)
        outcome.store, outcome.key = str(folder.root), folder.key
        if in_process:
            Console().rule(f"{outcome.row}, seed {outcome.seed}", align="left")
        interrupted = _bring_to_an_end(verb, config, folder, outcome, log)
    if interrupted and in_process:
        raise KeyboardInterrupt


def _bring_to_an_end(verb: str, config: DictConfig, folder: RunFolder, outcome: Outcome, log: Path | None) -> bool:
    """Fill in status and reason; whether Ctrl-C came meanwhile."""
    if folder.finished() and not config.overwrite:
        outcome.status = SKIPPED
    elif config.sweep.missing == "skip":
        outcome.status, outcome.reason = _as_recorded(folder.record())
    elif folder.is_held():
        outcome.status = BUSY
    else:
        ended = run_child(verb, outcome.overrides, log)
        outcome.status, outcome.reason = (BUSY, "") if ended.held else judge(folder, ended)
        return ended.interrupted
    return False


def judge(folder: RunFolder, ended: Ended) -> tuple[str, str]:
    """Status and reason after a child's end; a record that still says running is set right."""
    record = folder.record()
    if ended.returncode == 0 and folder.finished():
        return DONE, ""
    if ended.interrupted:
        status, reason = INTERRUPTED, "interrupted; the same command goes on from the last saved epoch"
    elif ended.returncode < 0:
        status, reason = (
            KILLED,
            f"its process was ended by signal {-ended.returncode}"
            + (" (SIGKILL: out of memory?)" if ended.returncode == -9 else ""),
        )
    else:
        status, reason = FAILED, ended.complaint or f"its process ended with status {ended.returncode}"
    if record and record.status == RUNNING:
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
        outcome.reason = str(mistake) if mistake else traceback.format_exc().strip().rpartition("\n")[2]
    finally:
        outcome.seconds = round(time.perf_counter() - started, 1)
        outcome.write(sweep)


def row_name(overrides: list[str], chosen: dict[str, str]) -> str:
    """An overlay's name, unless something else about the variant was swept beside it; else the variant's label."""
    named = [override.partition("=")[2] for override in overrides if override.startswith(("+ablation=", "+architecture="))]
    more = any(override.startswith(("technique/", "decoder=", "decoder.", "technique.")) for override in overrides)
    return named[0] if len(named) == 1 and not more else label(chosen_options(chosen), chosen.get("decoder", USUAL_DECODER))


def _labelled_reader(config: DictConfig) -> Callable[[DictConfig, str], LabelledSplit]:
    data = _parts(config, ["pretraining.data", "debug.images"])
    return lambda _, split: _read_once(read_labelled_split, data, split)


def _parts(config: DictConfig, names: Sequence[str]) -> str:
    """Parts of a config, resolved, as JSON."""
    parts = {name: OmegaConf.select(config, name) for name in names}
    plain = {
        name: OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part for name, part in parts.items()
    }
    return json.dumps(plain, sort_keys=True)


@functools.lru_cache(maxsize=16)
def _read_once(read: Callable[[DictConfig, str], Any], parts: str, split: str) -> Any:
    config = OmegaConf.create()
    for name, part in json.loads(parts).items():
        OmegaConf.update(config, name, part)
    return read(config, split)  # its manifest asks the files anew each time
