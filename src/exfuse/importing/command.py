"""What `exfuse study import` does: runs of other code held against each other, then kept as a study's records and shown."""

import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from exfuse.config.words import as_typed
from exfuse.errors import UserError
from exfuse.files import sha256, write_atomically
from exfuse.importing.alignment import METRIC, align
from exfuse.importing.notes import notes_on
from exfuse.importing.results import read_results
from exfuse.importing.stated import Columns, Found, Score
from exfuse.importing.study import metric_of, record_of, study_of
from exfuse.limits import NonNegative, Text
from exfuse.store.checked import plain, read_json, typed
from exfuse.store.folder import IMPORTED, RunFolder
from exfuse.store.grouping import Grouping
from exfuse.store.record import Record
from exfuse.store.study_file import FILE, RECORDS, SCHEMA, StudyFile, check_place, write_study
from exfuse.terminal import Console


def import_study(
    folder: Text,
    output: Text | None,
    name: Text | None,
    title: Text | None,
    dataset: Text | None,
    baseline: Text | None,
    metric_name: Text | None,
    metric_unit: Text | None,
    metric_better: Literal["higher", "lower"] | None,
    columns_row: Text,
    columns_seed: Text | NonNegative,
    columns_image: Text,
    columns_score: Text,
    columns_group: Text,
    missing: Literal["refuse", "skip"],
    mixed: bool,
    quiet: bool,
) -> None:
    """Make a study of the result files in ``folder``, or of one table; everything is checked before anything is written.

    Args:
        folder: of the files, or a table.
        output: the study's folder; None for ``outputs/studies/NAME``.
        name, title, dataset, baseline, metric_name, metric_unit, metric_better: in the place of what study.yaml says.
        columns_row, columns_seed, columns_image, columns_score, columns_group: see `Columns`.
        missing: what becomes of a row without a run of a seed that others have.
        mixed: whether runs of one row may differ in their settings, and are marked.
        quiet: whether nothing is printed.

    Raises:
        UserError: naming the first file that cannot be used, and why; nothing is written then.
    """
    from exfuse.analysis.rendering import render_study

    source = Path(folder)
    columns = Columns(columns_row, str(columns_seed), columns_image, columns_score, columns_group)
    file, found, left_out = read_results(source, columns)
    named = {"name": metric_name, "unit": metric_unit, "better": metric_better}
    if any(named.values()):
        stated = {**(plain(file.metric) if file.metric else {}), **{key: value for key, value in named.items() if value}}
        file = msgspec.structs.replace(file, metric=typed(stated, Score, "metric", "what scores are", METRIC))
    said = {"name": name, "title": title, "data": dataset, "baseline": baseline}
    file = msgspec.structs.replace(file, **{key: value for key, value in said.items() if value})
    runs, grouping = align(found, file, source)
    metric = metric_of(runs)
    command = _command(source, {**said, **{f"metric.{key}": value for key, value in named.items()}}, columns, missing, mixed)
    study = study_of(runs, file, source, command, missing, mixed)
    target = Path(output) if output else Path("outputs/studies") / study.name
    study = msgspec.structs.replace(study, source=_marks(source, target)[0 if source.is_absolute() else 1])
    _check_target(target, source, study)
    records = [record_of(run, metric, grouping, source) for run in runs]
    for note in () if quiet else notes_on(runs, grouping, records, metric, study, left_out):
        print(f"Note: {note}", file=sys.stderr)
    _write(target, study, runs, records, grouping)
    render_study(target, Console(quiet=quiet))


def _command(source: Path, said: Mapping[str, str | None], columns: Columns, missing: str, mixed: bool) -> str:
    usual = msgspec.structs.asdict(Columns())
    typed_too: dict[str, Any] = {"dataset" if key == "data" else key: value for key, value in said.items() if value}
    typed_too |= {f"columns.{key}": value for key, value in msgspec.structs.asdict(columns).items() if value != usual[key]}
    typed_too |= {"missing": "skip"} if missing == "skip" else {}
    typed_too |= {"mixed": True} if mixed else {}
    place = source.name if source.is_absolute() else source.as_posix()  # a study travels, where things lie stays here
    return shlex.join(["exfuse", "study", "import", place, *(f"{key}={as_typed(value)}" for key, value in typed_too.items())])


def _marks(source: Path, target: Path) -> tuple[str, str]:
    """What stands for a folder of results: where it is, and where it is from the study, which holds if both travel together."""
    places = (source.resolve().as_posix(), Path(os.path.relpath(source.resolve(), target.resolve())).as_posix())
    absolute, relative = (hashlib.sha256(place.encode()).hexdigest()[:16] for place in places)
    return absolute, relative


def _check_target(target: Path, source: Path, study: StudyFile) -> None:
    """Refuse to write over what was not imported from there, and into what is read."""
    inside, read = target.resolve(), source.resolve()
    if inside == read or read in inside.parents or inside in read.parents:
        raise UserError(f"{target} lies in {source}, or that in it: the study would be read as results. Choose another output.")
    check_place(target, "output")
    if (target / FILE).is_file():
        there = read_json(target / FILE, StudyFile, "a study", "Choose another output.", SCHEMA)
        known = ("", *_marks(source, target))  # nothing: of before the place was noted
        is_another = shlex.split(there.command)[:4] != shlex.split(study.command)[:4] or there.source not in known
        if any(row.options for row in there.rows) or is_another:
            raise UserError(f"{target} holds another study, made by {there.command!r}. Choose another name or output.")


def _write(target: Path, study: StudyFile, runs: Sequence[Found], records: Sequence[Record], grouping: Grouping | None) -> None:
    """The study, by which a later start knows what one that was cut off has left; its records; earlier ones go last."""
    write_study(target, study)
    for one, record in zip(runs, records, strict=True):
        folder = RunFolder(target / RECORDS, record.key)
        arrays = one.additive._asdict() | {"ids": np.array(one.ids)}
        if grouping is not None:
            arrays |= {"groups": np.array(grouping.groups), "ordered": np.array(grouping.ordered)}
        write_atomically(folder.path / IMPORTED, lambda path, arrays=arrays: np.savez_compressed(path, **arrays))  # type: ignore[misc]
        folder.write(msgspec.structs.replace(record, imported_sha256=sha256(folder.path / IMPORTED)))
    keys = {record.key for record in records}
    for stale in (path for path in (target / RECORDS).iterdir() if path.is_dir() and path.name not in keys):
        shutil.rmtree(stale)
