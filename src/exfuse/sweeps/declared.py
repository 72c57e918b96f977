"""A study as it is declared in conf/study/ or typed: its rows, what each builds on, and the jobs that they are."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from msgspec.structs import replace
from omegaconf import OmegaConf

from exfuse.config import search_path
from exfuse.config.overrides import compose_hydra, parser
from exfuse.config.words import as_typed
from exfuse.errors import ConfigError, UserError, plural, repeated
from exfuse.store import variants
from exfuse.store.checked import typed as typed_as
from exfuse.store.study_file import Heading, check_words
from exfuse.store.tuning import DeclaredTune
from exfuse.store.variants import chosen_options, label
from exfuse.sweeps.tuning import Job, overridden_key

ROW = "sweep.row"  # by which a job says whose it is, and a user which rows are wanted
_OF_THE_STUDY = ("seed", "study", "sweep", "hydra")
_LONGEST = 80  # letters of a study's name, see `exfuse.store.study_file.Heading`


class DeclaredRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row as conf/study declares it.

    Attributes:
        builds_on: the row whose difference is shown.
        label: of the variant, where the row's name is another.
        paper: the paper's mIoU in %; ``trust`` says how it is known, see `exfuse.analysis.paper.TRUST`.
        overrides: that make its runs; None where the sweep makes variants and the row is one of them.
    """

    builds_on: str | None = None
    label: str | None = None
    paper: float | None = None
    trust: str = "P"
    overrides: list[str] | None = None


class DeclaredStudy(Heading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A study as conf/study declares it; without rows, each variant becomes one.

    Attributes:
        baseline: of a study without rows: whatever its sweep varies makes them, and this one, named by what it has of that, is
            what the others build on; empty for the first.
    """

    rows: dict[str, DeclaredRow | None] = {}
    tune: DeclaredTune | None = None
    baseline: str | None = None

    @property
    def overrides(self) -> dict[str, list[str]]:
        """Of the rows that declare some, by row."""
        return {name: row.overrides for name, row in self.rows.items() if row and row.overrides is not None}


def check_declared(study: DeclaredStudy) -> None:
    """Refuse a study that could make no table before anything is trained.

    Raises:
        UserError: see `exfuse.store.study_file.check_words`; or if two rows have one label, or one's overrides cannot be used.
    """
    rows = {name: row.builds_on if row else None for name, row in study.rows.items()}
    check_words("study", study, rows, variants.names())
    if twice := repeated(row.label for row in study.rows.values() if row and row.label and row.overrides is None):
        raise UserError(f"study: two rows have the label {twice[0]}. A run can stand in one of them alone.")
    if study.baseline is not None and rows:
        raise UserError("study.baseline is for a study without rows; rows say themselves what they build on.")
    if study.overrides and (bare := [name for name in rows if name not in study.overrides]):
        raise UserError(
            f"study: row {bare[0]} has no overrides and row {next(iter(study.overrides))} has some. Where one row is a list of "
            "overrides, every row is."
        )
    for name, overrides in study.overrides.items():
        if problem := _problem(overrides):
            raise UserError(f"study: row {name}: {problem}")


def _problem(overrides: Sequence[str]) -> str:
    """What is wrong with a row's overrides by themselves; empty if nothing is."""
    if not overrides:
        return "its list of overrides is empty. Name what it is, such as +ablation=baseline."
    for text in overrides:
        key = overridden_key(text)
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            return f"{text!r} is no override, expected key=value: {' '.join(str(error).split())}"
        if override.is_sweep_override():
            return f"{text} would be swept. A row is one setting: make each value a row."
        if re.split(r"[./@]", key)[0] in _OF_THE_STUDY:
            return f"{text} is the study's to say, not a row's." + (
                " Seeds belong to hydra.sweeper.params or the command line." if key == "seed" else ""
            )
        if sum(overridden_key(other) == key for other in overrides) > 1:
            return f"{key} stands in it twice. Keep one."
    return ""


def read_study(study: Any, jobs: Sequence[Job], name: str | None = None) -> tuple[DeclaredStudy, list[Job]]:
    """A study of a config, whose file has this name, and its jobs as `declare_rows` makes them.

    Raises:
        UserError: if it is none, or could make no table.
    """
    content = OmegaConf.to_container(study, resolve=True) if OmegaConf.is_config(study) else study
    file = search_path.find(f"study/{name}")
    remedy = f"Mend {file}, or the override." if file else "Mend the override."
    declared = typed_as(content, DeclaredStudy, "study", "one that can be tabulated", remedy)
    check_declared(declared)
    return declare_rows(declared, jobs)


def compose_study(typed: Sequence[str]) -> tuple[DeclaredStudy, list[Job]]:
    """The study of what is typed for ``exfuse train``, which wins over what it says itself, and the overrides of each run.

    Raises:
        UserError: see `read_study`.
        HydraException: if it does not compose.
    """
    reader = parser()
    parsed = reader.parse_overrides([*typed])
    config = compose_hydra("train", [str(override.input_line) for override in parsed if not override.is_sweep_override()])
    named = {override.key_or_group for override in parsed}
    swept = {key: value for key, value in (config.hydra.sweeper.params or {}).items() if key.lstrip("+") not in named}
    study, name = config.get("study") or {"name": "multirun", "title": ""}, config.hydra.runtime.choices.get("study")
    return read_study(study, split(swept, typed, reader), name)


def split(params: Mapping[str, Any], typed: Sequence[str], reader: OverridesParser | None = None) -> list[Job]:
    """The jobs that Hydra's own sweeper makes of a study's ``hydra.sweeper.params`` and what is typed, which wins.

    Raises:
        ConfigError: if a value is listed twice.
    """
    texts = [*(f"{key}={value}" for key, value in params.items()), *typed]
    parsed = (reader or OverridesParser.create()).parse_overrides(texts)
    for override in parsed:
        if twice := repeated(override.sweep_string_iterator() if override.is_discrete_sweep() else ()):
            raise ConfigError(f"{override.input_line}: {twice[0]} is listed twice. List every value once.")
        if (
            override.is_sweep_override()
            and (key := overridden_key(override.input_line or "")).startswith("sweep.")
            and key != ROW
        ):
            raise ConfigError(f"{override.input_line}: expected one value. {key} is about the sweep, not about a run of it.")
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def declare_rows(study: DeclaredStudy, jobs: Sequence[Job]) -> tuple[DeclaredStudy, list[Job]]:
    """The study with its rows, and every job of it, where rows are overrides; both as they are for any other study.

    Args:
        study: as declared.
        jobs: of its sweep: of rows that are overrides all that they share, of a study with a `DeclaredStudy.baseline` each row
            with each seed.

    Raises:
        ConfigError: if a row is asked for that there is not, or nothing is varied.
    """
    if not study.overrides and study.baseline is None:
        if named := [override for job in jobs for override in job if overridden_key(override) == ROW]:
            raise ConfigError(f"{named[0]}: rows can be picked of a study whose rows are overrides, which this is not.")
        return study, [*jobs]
    if not study.overrides:
        study, jobs = _varied(study, jobs)
    overrides = study.overrides
    typed = {overridden_key(override) for job in jobs for override in job}  # wins over rows, as over all that a study says
    own = {name: [one for one in ones if overridden_key(one) not in typed] for name, ones in overrides.items()}
    found: dict[str, list[Job]] = {name: [] for name in overrides}
    for job in jobs:
        shared = [override for override in job if overridden_key(override) != ROW]
        for name in [value_of(override) for override in job if overridden_key(override) == ROW] or overrides:
            if name not in found:
                raise ConfigError(f"{ROW}={name}: there is no such row. Rows: {', '.join(overrides)}.")
            found[name].append([*own[name], *shared, f"{ROW}={as_typed(name)}"])
    rows = {name: replace(row, overrides=own[name]) for name, row in study.rows.items() if row}
    return replace(study, rows={**rows}), [job for of_row in found.values() for job in of_row]


def _varied(study: DeclaredStudy, jobs: Sequence[Job]) -> tuple[DeclaredStudy, list[Job]]:
    """A study of whatever its sweep varies but seeds, with rows that are called what they differ in; and what rows share."""
    rows = [list(row) for row in dict.fromkeys(tuple(one for one in job if overridden_key(one) != "seed") for job in jobs)]
    shared = set.intersection(*map(set, rows))
    own = {" ".join(one.lstrip("+") for one in row if one not in shared): row for row in rows}
    if len(own) < 2:
        raise ConfigError("Nothing is varied: give a key several values, such as recipe.lr=1e-3,3e-3.")
    baseline, there = next(iter(own)), f"Rows: {', '.join(own)}."
    if study.baseline:
        wanted = _spelt(study.baseline).difference(*map(_spelt, shared))
        fitting = [name for name in own if study.baseline == name or (wanted and wanted <= _spelt(name))]
        if len(fitting) != 1:
            problem = f"this is {plural(len(fitting), 'row')}, name one" if fitting else "there is no such row"
            raise ConfigError(f"baseline={study.baseline}: {problem}. {there}")
        baseline = fitting[0]
    keys = list(dict.fromkeys(overridden_key(one) for row in rows for one in row if one not in shared))
    made = {
        name: DeclaredRow(None if name == baseline else baseline, overrides=[one for one in row if one not in shared])
        for name, row in own.items()
    }
    title = study.title or f"{', '.join(keys)} varied"
    name = study.name
    if name == "vary":  # not one of somebody's own
        name = re.sub(r"[^\w .+-]", "-", f"vary-{'+'.join(keys)}")[:_LONGEST].rstrip(". ")
    common = list(dict.fromkeys(tuple(one for one in job if one in shared or overridden_key(one) == "seed") for job in jobs))
    study = replace(study, name=name, title=title, rows={**made}, baseline=None)
    check_declared(study)
    return study, [list(job) for job in common]


def _spelt(words: str) -> set[str]:
    """Overrides as Hydra spells them, ``recipe.lr=0.001`` for ``recipe.lr=1e-3``; nothing if they are none."""
    try:
        parsed = OverridesParser.create().parse_overrides(words.split())
        return {f"{one.get_key_element().lstrip('+')}={one.get_value_element_as_str()}" for one in parsed}
    except (HydraException, ValueError):
        return set()


def value_of(override: str) -> str:
    return str(OverridesParser.create().parse_override(override).value())


def declared_name(declared: Mapping[str, DeclaredRow | None], choices: Mapping[str, str], row: str) -> str:
    """What a study calls the row of a run with these choices; ``row`` where it declares no label for them."""
    if (own := declared.get(row)) and own.overrides is not None:
        return row
    names = {one.label: name for name, one in declared.items() if one and one.label}
    return names.get(label(chosen_options(choices), choices["decoder"]), row)
