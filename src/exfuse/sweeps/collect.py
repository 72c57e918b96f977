"""From a sweep's outcomes to a study's folder: which run stands in which cell, and a copy of each record."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from exfuse.errors import UserError
from exfuse.files import write_atomically
from exfuse.store.checked import plain, typed
from exfuse.store.folder import BOUNDARY, COUNTS, RunFolder
from exfuse.store.history import HISTORY
from exfuse.store.outcome import Outcome
from exfuse.store.record import Record
from exfuse.store.study import SCHEMA, Paper, RowFile, StudyFile, write_study
from exfuse.store.variants import chosen_options, label

_DIRECTORIES = re.compile(r"(?<![\w.:/])/(?:[^\s/:'\"]+/)+")  # of an absolute path


class DeclaredRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row as conf/study declares it.

    Attributes:
        builds_on: the row whose difference is shown.
        label: of the variant, where the row's name is another.
        paper: the paper's mIoU in %; ``trust`` says how it is known, see `exfuse.analysis.paper.TRUST`.
    """

    builds_on: str | None = None
    label: str | None = None
    paper: float | None = None
    trust: str = "P"


class DeclaredStudy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A study as conf/study declares it; without rows, each variant becomes one. See `exfuse.store.study.Study`."""

    name: str
    title: str
    question: str = ""
    paper: Paper | None = None
    factors: list[str] | None = None
    rows: dict[str, DeclaredRow | None] = {}
    varies: list[str] = []
    edge_radius: int | None = None


def collect_study(outcomes: Sequence[Outcome], study: DeclaredStudy, command: str, mixed: bool, output: Path) -> bool:
    """Write ``study.json`` and ``records/`` into the folder ``output``; records of an earlier collection that no cell names go.

    Args:
        outcomes: of the sweep's jobs.
        study: that was swept.
        command: that made the runs.
        mixed: whether runs of different commits or settings may stand in one table, marked.
        output: the study's folder.

    Returns:
        Whether anything is other than it was at an earlier collection.

    Raises:
        UserError: if two runs claim one cell.
    """
    rows = _rows(outcomes, study.rows)
    keys = {key for row in rows for key in row.runs.values()}
    for stale in (output / "records").glob("*"):
        if stale.name not in keys:
            shutil.rmtree(stale)
    sources = [RunFolder(Path(outcome.store), outcome.key) for outcome in outcomes if outcome.key]
    changed = [_copy_record(source, RunFolder(output / "records", source.key)) for source in sources]
    kept = {name: getattr(study, name) for name in ("name", "title", "question", "paper", "factors", "varies", "edge_radius")}
    return write_study(output, StudyFile(schema=SCHEMA, command=command, mixed=mixed, rows=rows, **kept)) or any(changed)


def _rows(outcomes: Sequence[Outcome], declared: Mapping[str, DeclaredRow | None]) -> list[RowFile]:
    by_row: dict[str, list[Outcome]] = {name: [] for name in declared}
    names = {row.label: name for name, row in declared.items() if row and row.label}
    for outcome, swept_too in zip(outcomes, _swept_besides(outcomes), strict=True):
        whole = label(chosen_options(outcome.choices), outcome.choices["decoder"])
        name = names.get(whole, outcome.row) if declared else " ".join([outcome.row, *swept_too])
        by_row.setdefault(name, []).append(outcome)
    swept = {name: jobs for name, jobs in by_row.items() if jobs}
    seeds = sorted({outcome.seed for outcome in outcomes})
    rows = []
    for name, jobs in swept.items():
        row = declared.get(name) or DeclaredRow(builds_on=None if declared else "baseline")
        on = row.builds_on if row.builds_on in swept and row.builds_on != name else None
        options, decoder = chosen_options(jobs[0].choices), jobs[0].choices["decoder"]
        rows.append(RowFile(name, options, decoder, _cells(name, jobs, seeds), on, row.paper, row.trust))
    return rows


def _cells(name: str, jobs: Sequence[Outcome], seeds: Sequence[int]) -> dict[int, str | None]:
    """The key of the run of each seed; None for one that was not swept or could not even be planned."""
    cells: dict[int, Outcome] = {}
    for job in jobs:
        other = cells.setdefault(job.seed, job)
        if other.key != job.key:
            differing = sorted(set(other.overrides) ^ set(job.overrides))
            raise UserError(
                f"Two runs claim the cell of row {name}, seed {job.seed}: they differ in {', '.join(differing)}. "
                "A table has one setting: sweep the variants and seeds, and give other settings a sweep of their own."
            )
    return {seed: (cells[seed].key or None) if seed in cells else None for seed in seeds}


def _swept_besides(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Of each job the overrides that not all jobs have, variants and seeds left out: what else a multirun swept."""
    everywhere = set.intersection(*(set(outcome.overrides) for outcome in outcomes))
    known = ("seed=", "+ablation=", "technique/", "decoder=")
    return [
        [override for override in outcome.overrides if override not in everywhere and not override.startswith(known)]
        for outcome in outcomes
    ]


def _copy_record(source: RunFolder, target: RunFolder) -> bool:
    """Copy a record and its counts without what is of this machine alone; whether the copy was missing or another."""
    record = source.record()
    if record is None:
        return False
    copy = typed(
        portable(plain(replace(record, reason=record.reason or record.why, traceback=""))), Record, source.path, "a record", ""
    )
    if _is_copied(target, copy):
        return False
    if record.done:
        source.counts(record)  # refuses what its record does not describe
        (target.path / HISTORY).unlink(missing_ok=True)  # of an earlier training
        files = [COUNTS] if source.boundary_areas(record) is None else [COUNTS, BOUNDARY]
        for name in files:
            write_atomically(target.path / name, lambda path, name=name: shutil.copyfile(source.path / name, path))  # type: ignore[misc]
    target.write(copy)
    return True


def _is_copied(target: RunFolder, copy: Record) -> bool:
    try:
        copied = target.record()
        if copied is not None and copied.done:
            target.counts(copied)
            target.boundary_areas(copied)
    except UserError:
        return False  # damaged: copied anew
    return copied == copy


def portable(content: Any) -> Any:
    """Plain data with absolute paths cut to their last name: a record that travels tells nothing of the machine's folders."""
    if isinstance(content, dict):
        return {name: portable(value) for name, value in content.items()}
    if isinstance(content, list):
        return [portable(value) for value in content]
    return _DIRECTORIES.sub("", content) if isinstance(content, str) else content
