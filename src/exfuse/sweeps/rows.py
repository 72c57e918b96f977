"""The rows of a sweep held against each other before the first is trained: each another network, none with two settings."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from msgspec.structs import replace

from exfuse.composition.precision import possible_precisions
from exfuse.config import search_path
from exfuse.config.overrides import explain
from exfuse.errors import ConfigError, UserError
from exfuse.runs.micro_batch import in_parts
from exfuse.runs.plan import PRETRAINED
from exfuse.store.consistency import CALLED, ROOTS
from exfuse.store.description import Option, RunDescription, encode_option, label_of
from exfuse.store.key import backbone_key, run_key
from exfuse.store.variants import baseline
from exfuse.sweeps.declared import ROW, DeclaredStudy, declared_name, value_of
from exfuse.sweeps.tuning import Describe, Job, overridden_key


def check_rows(study: DeclaredStudy, rows: Sequence[Job], describe: Describe) -> list[RunDescription]:
    """Refuse rows that are overrides and do not compose, or are the same run, before anything is trained.

    Args:
        study: with its rows, see `declare_rows`.
        rows: a job of each that is swept, all with one seed or with none; a row that stands there twice has two settings.
        describe: composes a single run.

    Returns:
        The run of each.

    Raises:
        ConfigError: naming the row, or both.
    """
    seen, runs = dict[str, str](), list[RunDescription]()
    named = [next(value_of(override) for override in row if overridden_key(override) == ROW) for row in rows]
    for name, row in zip(named, rows, strict=True):
        same = [other for other_name, other in zip(named, rows, strict=True) if other_name == name]
        if besides := [override for override in row if any(override not in other for other in same)]:
            raise ConfigError(
                f"study: row {name} would have two settings, of which one is {' '.join(besides)}. Sweep seeds alone beside "
                "rows that are overrides, or vary the setting by exfuse study vary."
            )
        try:
            run = describe(row)
            parted = in_parts(run, images) if isinstance(images := run.runtime.micro_batch, int) else run
        except (HydraException, UserError) as error:
            said = " ".join((str(error) if isinstance(error, UserError) else explain(error, "train", row)).split())
            raise ConfigError(f"study: row {name}: {said}") from error
        declared = study.rows[name]
        if declared and declared.label not in (None, label_of(run)):
            raise ConfigError(f"study: row {name}: its label is {declared.label}, and its overrides make {label_of(run)}.")
        if (other := seen.setdefault(_identity(parted), name)) != name:
            raise _one_run(other, name)
        runs.append(run)
    return runs


def check_variants(study: DeclaredStudy, jobs: Sequence[Job], runs: Sequence[tuple[str, RunDescription]]) -> None:
    """Refuse a sweep of which two settings would stand in one row of a study's, before anything is trained.

    Args:
        study: whose rows are variants.
        jobs: one of each variant and whatever else is swept but seeds.
        runs: of each its row's own name, and the run.

    Raises:
        UserError: naming the row.
    """
    seen, names = dict[str, tuple[str, Job]](), dict[str, str]()
    for job, (row, run) in zip(jobs, runs, strict=True):
        name, identity = declared_name(study.rows, run.choices, row), _identity(run)
        if (same := names.setdefault(identity, name)) != name:
            raise _one_run(same, name)
        other, first = seen.setdefault(name, (identity, job))
        if other != identity:
            raise two_settings(name, first, job)


def two_settings(row: str, one: Job, other: Job) -> UserError:
    """What to say of two jobs for one place in a table."""
    differing = sorted({*one} ^ {*other})
    return UserError(
        f"Two runs claim the cell of row {row}: they differ in {', '.join(differing)}. A table has one setting: sweep the "
        "variants and seeds, and give other settings a sweep of their own."
    )


def _one_run(row: str, other: str) -> ConfigError:
    return ConfigError(
        f"study: rows {row} and {other} are the same run: nothing that changes a number tells them apart. Take one out, or "
        "look for an override that is typed too and wins over both."
    )


def _identity(run: RunDescription) -> str:
    """The key of a run as far as it is known before its data are read, by which their settings stand for themselves here.

    Techniques stand for what they do: two options of one code and the same settings are one.
    """
    stands = {"data": str(_content(encode_option(run.data)))}
    if run.init_from is not None:
        stands["init_from"] = run.init_from
    elif run.backbone.init == PRETRAINED:
        made_of = {"start": run.pretraining.start, "data": str(_content(encode_option(run.pretraining.data)))}
        stands["backbone"] = backbone_key(run, made_of)
    technique = {
        name: run.technique.get(name) or search_path.as_written(f"technique/{name}", usual)
        for name, usual in baseline().items()
    }
    run = replace(run, technique={name: _as_code(name, option) for name, option in technique.items()})
    return run_key(possible_precisions(run)[0], stands)


def _content(data: Any) -> Any:
    """A data set's settings without what changes no image, and with places as they are, however they are spelt."""
    if isinstance(data, Mapping):
        kept = {name: value for name, value in data.items() if name not in CALLED}
        return {
            name: os.path.realpath(value) if name in ROOTS and isinstance(value, str) else _content(value)
            for name, value in kept.items()
        }
    return [*map(_content, data)] if isinstance(data, list) else data


def _as_code(slot: str, option: Option) -> Option:
    return Option(search_path.read_whole(f"technique/{slot}", option.name).get("_target_", option.name), option.settings)
