"""From a sweep's outcomes to a study's folder: which run stands in which cell, and a copy of each record."""

import itertools
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec.structs import replace

from exfuse.errors import UserError
from exfuse.files import write_atomically
from exfuse.store import variants
from exfuse.store.checked import plain, typed, with_texts
from exfuse.store.consistency import differences
from exfuse.store.folder import BOUNDARY, COUNTS, RunFolder
from exfuse.store.history import HISTORY
from exfuse.store.outcome import Outcome
from exfuse.store.record import RECORD, Record
from exfuse.store.sequential import Sequential
from exfuse.store.study_file import RECORDS, SCHEMA, Heading, RowFile, StudyFile, write_study
from exfuse.store.tuning import FOLDER as SEARCH
from exfuse.store.variants import chosen_options
from exfuse.sweeps.declared import ROW, DeclaredRow, DeclaredStudy, declared_name
from exfuse.sweeps.rows import two_settings
from exfuse.sweeps.tuning import Search, overridden_key

_PATH = re.compile(r"/(?!.*[:,;]\s|.*\.$).+")


def collect_study(
    outcomes: Sequence[Outcome],
    study: DeclaredStudy,
    command: str,
    mixed: bool,
    output: Path,
    search: Search | None = None,
    sequential: Sequential | None = None,
    whole: bool = True,
) -> bool:
    """Write ``study.json``, ``records/`` and, of a tuned study, ``search/`` into the folder ``output``.

    Records of an earlier collection that no cell names go, once the study is whole.

    Args:
        outcomes: of the sweep's jobs.
        study: that was swept.
        command: that made the runs.
        mixed: whether runs of different commits or settings may stand in one table, marked.
        output: the study's folder.
        search: by which its rows were tuned.
        sequential: how far a sequential study is.
        whole: whether no more outcomes follow.

    Returns:
        Whether anything is other than it was at an earlier collection.

    Raises:
        UserError: if two runs claim one cell, or one run two rows that are overrides.
    """
    names = _names(outcomes, study.rows, search.keys if search else ())
    rows, tuning = _rows(outcomes, names, study.rows, sequential is not None), None
    if search:
        typed_for = [(name, {*outcome.overrides}) for name, outcome in zip(names, outcomes, strict=True)]
        tuning = search.file({place: name for place, row in enumerate(search.rows) for name, own in typed_for if {*row} <= own})
    swept = {row.name for row in rows}
    kept: dict[str, Any] = {name: getattr(study, name) for name in Heading.__struct_fields__}
    kept["claims"] = [claim for claim in study.claims if {claim.row, *claim.of} <= swept]
    kept |= _declared(rows, study, outcomes, output / RECORDS) if study.overrides else {}
    named, own = {name for row in rows for name in row.options}, {technique.name for technique in variants.own()}
    kept["techniques"] = [one for one in variants.techniques() if one.name in named - own]
    file = StudyFile(schema=SCHEMA, command=command, mixed=mixed, rows=rows, tuning=tuning, sequential=sequential, **kept)
    changed = write_study(output, file)  # first: by it a later start knows what one that was cut off here has left
    changed |= _copy_records(outcomes, output / RECORDS, whole)
    return _copy_records(search.runs if search else (), output / SEARCH, whole, counts=False) or changed


def _declared(rows: Sequence[RowFile], study: DeclaredStudy, outcomes: Sequence[Outcome], kept: Path) -> dict[str, Any]:
    """What study.json says of rows that are overrides; ``kept`` has the records of runs whose own folders are gone."""
    of_key: dict[str, str] = {}
    for row in rows:
        for key in filter(None, row.runs.values()):
            if (other := of_key.setdefault(key, row.name)) != row.name:
                raise UserError(f"Rows {other} and {row.name} are the same run, {key}. Take one of them out of the study.")
    runs = {outcome.key: outcome for outcome in outcomes}
    records = {
        row.name: [runs[key].record() or RunFolder(kept, key).record() for key in filter(None, row.runs.values())]
        for row in rows
    }
    first = {name: done[0] for name, found in records.items() if (done := [one for one in found if one and one.done])}
    overrides = {row.name: study.overrides[row.name] for row in rows}
    return {"overrides": overrides, "settings": differences(first, map(overridden_key, itertools.chain(*overrides.values())))}


def _names(outcomes: Sequence[Outcome], declared: Mapping[str, DeclaredRow | None], settled: Collection[str]) -> list[str]:
    """What the table calls the row of each outcome; ``settled`` are the keys that a search has settled."""
    if declared:
        return [declared_name(declared, outcome.choices, outcome.row) for outcome in outcomes]
    besides = swept_besides(outcomes, settled)
    return [" ".join([outcome.row, *swept_too]) for outcome, swept_too in zip(outcomes, besides, strict=True)]


def _rows(
    outcomes: Sequence[Outcome], names: Sequence[str], declared: Mapping[str, DeclaredRow | None], sequential: bool = False
) -> list[RowFile]:
    """The study's rows; in a sequential one each has as many seeds as it was given."""
    by_row: dict[str, list[Outcome]] = {name: [] for name in declared}
    for outcome, name in zip(outcomes, names, strict=True):
        by_row.setdefault(name, []).append(outcome)
    swept = {name: jobs for name, jobs in by_row.items() if jobs}
    seeds = sorted({outcome.seed for outcome in outcomes})
    rows = []
    for name, jobs in swept.items():
        row = declared.get(name) or DeclaredRow(builds_on=None if declared else "baseline")
        on = row.builds_on if row.builds_on in swept and row.builds_on != name else None
        options, decoder = chosen_options(jobs[0].choices), jobs[0].choices["decoder"]
        own = sorted({job.seed for job in jobs}) if sequential else seeds
        rows.append(RowFile(name, options, decoder, _cells(name, jobs, own), on, row.paper, row.trust))
    return rows


def _cells(name: str, jobs: Sequence[Outcome], seeds: Sequence[int]) -> dict[int, str | None]:
    """The key of the run of each seed; None for one that was not swept or could not even be planned."""
    cells: dict[int, Outcome] = {}
    for job in jobs:
        other = cells.setdefault(job.seed, job)
        if other.key != job.key:
            raise two_settings(f"{name}, seed {job.seed}", other.overrides, job.overrides)
    return {seed: (cells[seed].key or None) if seed in cells else None for seed in seeds}


def swept_besides(outcomes: Sequence[Outcome], settled: Collection[str] = ()) -> list[list[str]]:
    """Of each job the overrides that not all jobs have, variants and seeds left out: what else a multirun swept.

    Args:
        outcomes: of the jobs.
        settled: keys that a search has settled, or a row declares, which nobody swept.
    """
    settled = {*map(overridden_key, settled)}
    everywhere = set.intersection(*(set(outcome.overrides) for outcome in outcomes)) if outcomes else set()
    known = ("seed=", "+stop.floors=", "+ablation=", "technique/", "decoder=", f"{ROW}=")
    return [
        [
            override
            for override in outcome.overrides
            if override not in everywhere and not override.startswith(known) and overridden_key(override) not in settled
        ]
        for outcome in outcomes
    ]


def _copy_records(outcomes: Iterable[Outcome], folder: Path, whole: bool, counts: bool = True) -> bool:
    """Copy each outcome's record and, if they are ``whole``, remove those of others; whether anything is other than before."""
    sources = [outcome.folder for outcome in outcomes if outcome.key]
    stale = {path.parent.name for path in folder.glob(f"{'[0-9a-f]' * 16}/{RECORD}")} - {source.key for source in sources}
    for name in stale if whole else ():
        shutil.rmtree(folder / name)
    changed = [_copy_record(source, RunFolder(folder, source.key), counts) for source in sources]  # all of them
    return any(changed)


def _copy_record(source: RunFolder, target: RunFolder, counts: bool) -> bool:
    """Copy a record, with or without its counts, but for what is of this machine alone; whether it was missing or another."""
    record = source.record()
    if record is None:
        return False
    told = replace(record, reason=record.reason or record.why, traceback="")
    copy = typed(portable(plain(told)), Record, source.path, "a record", "")
    if _is_copied(target, copy, counts):
        return False
    if record.done and counts:
        source.counts(record)  # refuses what its record does not describe
        (target.path / HISTORY).unlink(missing_ok=True)  # of an earlier training
        files = [COUNTS] if source.boundary_areas(record) is None else [COUNTS, BOUNDARY]
        for name in files:
            write_atomically(target.path / name, lambda path, name=name: shutil.copyfile(source.path / name, path))  # type: ignore[misc]
    target.write(copy)
    return True


def _is_copied(target: RunFolder, copy: Record, counts: bool) -> bool:
    try:
        copied = target.record()
        if copied is not None and copied.done and counts:
            target.counts(copied)
            target.boundary_areas(copied)
    except UserError:
        return False  # damaged: copied anew
    return copied == copy


def portable(content: Any) -> Any:
    """Plain data with absolute paths cut to their last name: a record that travels tells nothing of the machine's folders.

    A text that begins with one is one, blanks and all, unless it reads as a sentence; within a text it ends at a blank, but for
    blanks in the names of the folders above.
    """
    return with_texts(content, lambda text: PurePosixPath(text).name if _PATH.fullmatch(text) else _directories().sub("", text))


@cache
def _directories() -> re.Pattern[str]:
    """Of an absolute path in a text."""
    folders = [Path.cwd()]
    with suppress(RuntimeError):  # a user without a home
        folders.append(Path.home())
    above = sorted({f"{folder}/" for folder in folders} - {"//"}, key=len, reverse=True)
    name = r"[^\s/:'\"]+/"
    begins = [*map(re.escape, above), f"/{name}"]
    return re.compile(rf"(?<![\w.:/])(?:{'|'.join(begins)})(?:{name})*")
