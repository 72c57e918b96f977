"""A study folder read back: which rows its table has, which runs they rest on, and what became of each run."""

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfuse.errors import UserError
from exfuse.metrics.detail import RADII, Detail
from exfuse.store import variants
from exfuse.store.consistency import Deviation, find_deviations, refuse
from exfuse.store.costs import KEYS, MeasuredCosts, read_costs
from exfuse.store.folder import RunFolder

SCHEMA = 1
MISSING = "missing"
_REMEDY = "Run the study's sweep again to write it anew."
_KEY = re.compile(r"[0-9a-f]{16}")
_READERS = 4  # threads: they overlap waiting for the disk, not parsing


@dataclass(frozen=True)
class Run:
    """One row's run of one seed.

    Attributes:
        status: done, failed, interrupted, running, killed, or missing if there is no record.
        record: as `RunFolder.record` gives it; None if missing.
        folder: where it lies or would lie.
    """

    seed: int
    status: str
    record: dict[str, Any] | None
    folder: RunFolder

    @property
    def done(self) -> dict[str, Any] | None:
        """The record of a finished run, else None."""
        return self.record if self.status == "done" else None

    def counts(self) -> NDArray[np.int64]:
        """Per-image confusion counts (images, C, C) of a finished run, read when first asked for.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        return self._counted[0]

    def image_ids(self) -> list[str]:
        """Which images `counts` counted, in its order."""
        return self._counted[1]

    @cached_property
    def detail(self) -> Detail | None:
        """Areas near borders and inside objects of a finished run; None where they were not counted.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        return self.folder.detail(self.record) if self.done and self.record else None

    @cached_property
    def _counted(self) -> tuple[NDArray[np.int64], list[str]]:
        return self.folder.counts(self.record)


@dataclass(frozen=True)
class StudyRow:
    """One line of a study's table.

    Attributes:
        options: the option of each technique.
        on: name of the row whose difference is shown, or None.
        paper: the paper's mIoU in %, or None.
        paper_trust: how far that number can be trusted: P read from the paper, N second-hand, R recalled.
        runs: by seed.
        costs: that stand for the records' own, by their names; None for one that was not measured beside the other rows'.
    """

    name: str
    options: Mapping[str, str]
    decoder: str
    on: str | None
    paper: float | None
    paper_trust: str | None
    runs: Mapping[int, Run]
    costs: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name as tables and figures show it, see `exfuse.store.variants.short_name`."""
        return variants.short_name(self.name, self.options, self.decoder)

    @property
    def records(self) -> dict[int, dict[str, Any]]:
        """Records of the finished runs by seed."""
        return {seed: run.record for seed, run in self.runs.items() if run.done and run.record}


@dataclass(frozen=True)
class Study:
    """A study and its records. `deviations` is empty unless ``mixed``: `load_study` refuses otherwise.

    ``edge_radius`` asks for columns that part edges from interiors, so many px from borders; None for a table without.
    ``measured`` is the study's ``costs.json``, which its rows' `StudyRow.costs` come from; None without.
    """

    folder: Path
    name: str
    title: str
    question: str
    command: str
    paper: Mapping[str, Any] | None
    factors: tuple[str, ...]
    mixed: bool
    rows: tuple[StudyRow, ...]
    techniques: tuple[variants.Technique, ...] = ()  # that its rows name, in order
    varies: tuple[str, ...] = ()  # settings, such as backbone.output_stride, that rows differ in on purpose
    edge_radius: int | None = None
    deviations: tuple[Deviation, ...] = field(default=())
    measured: MeasuredCosts | None = None

    def row(self, name: str) -> StudyRow:
        """The row of this name."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, StudyRow]:
        return {row.name: row for row in self.rows}

    @cached_property
    def deviating(self) -> frozenset[tuple[str, int]]:
        """The (row, seed) whose settings are not those of most runs."""
        return frozenset(run for deviation in self.deviations for run in deviation.runs)

    def done(self) -> list[tuple[StudyRow, int, dict[str, Any]]]:
        """Every finished run: row, seed, record."""
        return [(row, seed, record) for row in self.rows for seed, record in row.records.items()]


def load_study(folder: Path, measured: bool = True) -> Study:
    """Read ``folder/study.json`` and the records that it names, each once, and the costs measured afterwards.

    Args:
        folder: of the study.
        measured: False leaves out ``costs.json``, whatever it holds.

    Raises:
        UserError: if study.json or costs.json cannot be used, a record is refused, contradicts its row or belongs to none, or
            the finished runs differ in a setting that a table must hold fixed and the study is not ``mixed``.
    """
    path = folder / "study.json"
    content = _read_json(path)
    try:
        if not content["rows"]:
            raise UserError(f"{path} has no rows. {_REMEDY}")
        planned = [(_plan(row, path), row) for row in content["rows"]]
        keys = {key for runs, _ in planned for key in runs.values() if key}
        records = _read_records(folder / "records", keys, path)
        rows = tuple(_row(plan, row, records, folder / "records", path) for plan, row in planned)
        study = Study(
            folder=folder,
            name=str(content["name"]),
            title=str(content["title"]),
            question=str(content["question"]),
            command=str(content["command"]),
            paper=content["paper"],
            factors=tuple(content["factors"] or ()),
            mixed=bool(content["mixed"]),
            rows=rows,
            techniques=_techniques(content["rows"]),
            varies=tuple(content.get("varies") or ()),
            edge_radius=content.get("edge_radius"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a whole study ({type(error).__name__}: {error}). {_REMEDY}") from error
    _check_rows(study, path)
    deviations = find_deviations([(row.name, seed, record) for row, seed, record in study.done()], study.varies)
    if deviations and not study.mixed:
        refuse(study.name, deviations)
    study = replace(study, deviations=deviations)
    costs = read_costs(folder) if measured else None
    return study if costs is None else _with_costs(study, costs)


def _with_costs(study: Study, costs: MeasuredCosts) -> Study:
    """Times and memory of every row are then the measured ones, or unknown: the records' are not comparable with these."""
    found = [(row, costs.of(row.records.values())) for row in study.rows]
    rows = [replace(row, costs=dict.fromkeys(KEYS) if own is None else own.values) for row, own in found]
    return replace(study, rows=tuple(rows), measured=costs)


def find_studies(folders: list[Path]) -> list[Path]:
    """The study folders among and directly in ``folders``.

    Raises:
        UserError: if a folder is none and holds none.
    """
    found: list[Path] = []
    for folder in folders:
        inside = [folder] if (folder / "study.json").is_file() else sorted(path.parent for path in folder.glob("*/study.json"))
        if not inside:
            raise UserError(f"{folder} holds no study.json and no study folder. A sweep writes one: see conf/study/.")
        found += inside
    return list(dict.fromkeys(found))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"No {path}: a study folder holds study.json and records/.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). {_REMEDY}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise UserError(f"{path} has schema {schema}, this version reads {SCHEMA}. {_REMEDY}")
    return content


def _plan(row: Mapping[str, Any], path: Path) -> dict[int, str]:
    """The keys of a row's runs by seed; empty for a run whose key could not be known, as that of a missing backbone."""
    runs = {int(seed): str(key or "") for seed, key in row["runs"].items()}
    if wrong := [key for key in runs.values() if key and not _KEY.fullmatch(key)]:
        raise UserError(f"{path}: row {row['name']} names {wrong[0]!r}, which is no run's key (16 hexadecimal digits).")
    return dict(sorted(runs.items()))


def _read_records(folder: Path, keys: set[str], path: Path) -> dict[str, dict[str, Any] | None]:
    present = {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set()
    if stray := sorted(name for name in present - keys if not name.startswith(".")):
        raise UserError(
            f"{folder / stray[0]}: no row of {path} names this record ({len(stray)} such). Remove it, or run the sweep that it "
            "belongs to again."
        )
    found = sorted(present & keys)
    with ThreadPoolExecutor(_READERS) as pool:
        read = list(pool.map(lambda key: RunFolder(folder, key).record(), found))
    return dict(zip(found, read, strict=True))


def _techniques(rows: list[Mapping[str, Any]]) -> tuple[variants.Technique, ...]:
    """Those that the rows name: a technique that came to the config search path later is no column of an older study."""
    named = {name for row in rows for name in row["options"]}
    return tuple(sorted(map(variants.technique, named), key=lambda technique: (technique.order, technique.name)))


def _row(
    plan: dict[int, str], row: Mapping[str, Any], records: Mapping[str, dict[str, Any] | None], folder: Path, path: Path
) -> StudyRow:
    runs = {}
    for seed, key in plan.items():
        record = records.get(key)
        if record is not None:
            _check_claim(folder / key / "record.json", record, row, seed, path)
        runs[seed] = Run(seed, record["status"] if record else MISSING, record, RunFolder(folder, key))
    return StudyRow(
        name=str(row["name"]),
        options=variants.complete({name: str(option) for name, option in row["options"].items()}),
        decoder=str(row["decoder"]),
        on=row["on"],
        paper=None if row["paper"] is None else float(row["paper"]),
        paper_trust=row.get("paper_trust"),
        runs=runs,
    )


def _check_claim(path: Path, record: Mapping[str, Any], row: Mapping[str, Any], seed: int, study: Path) -> None:
    """Refuse a record that is not of the variant and seed that its row says."""
    if record["status"] == "done" and "scores" not in record:
        raise UserError(f"{path} is not the record of a segmentation run, but {study} names it in row {row['name']}.")
    choices = record.get("choices") or {}
    claimed = {f"technique/{name}": option for name, option in row["options"].items()} | {"decoder": row["decoder"]}
    differing = [
        f"{group} is {choices[group]}, the row says {option}"
        for group, option in claimed.items()
        if group in choices and choices[group] != option
    ]
    if record.get("seed", seed) != seed:
        differing.append(f"seed is {record['seed']}, the row says {seed}")
    if differing:
        raise UserError(
            f"{path} contradicts row {row['name']} of {study}: {'; '.join(differing)}. One of them was exchanged: run the "
            "study's sweep again to write study.json anew."
        )


def _check_rows(study: Study, path: Path) -> None:
    names = [row.name for row in study.rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path}: two rows are called {twice[0]}. Names must differ.")
    for row in study.rows:
        if row.on is not None and (row.on not in names or row.on == row.name):
            raise UserError(
                f"{path}: row {row.name} builds on {row.on!r}, which is no other row. There are {', '.join(names)}."
            )
    if study.edge_radius not in (None, *RADII):
        raise UserError(
            f"{path}: edge_radius is {study.edge_radius}, expected one of {', '.join(map(str, RADII))} (px) or null."
        )
    if unknown := [name for name in study.factors if name not in variants.names()]:
        raise UserError(f"{path}: factor {unknown[0]!r} is no technique. There are {', '.join(variants.names())}.")
