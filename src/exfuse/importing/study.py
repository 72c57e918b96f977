"""The study and the records that runs of other code make."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exfuse.errors import UserError
from exfuse.files import folder_name
from exfuse.importing.stated import FolderFile, Found
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store.checked import leaves, plain, typed
from exfuse.store.costs import Costs
from exfuse.store.grouping import Grouping
from exfuse.store.metric import MIOU, Metric
from exfuse.store.record import DONE, Averaged, Record, Scores
from exfuse.store.study_file import SCHEMA, SETTINGS, RowFile, StudyFile, check_words, setting_name


def usual_name(source: Path) -> str:
    """Of a study whose files name none."""
    return source.stem if source.is_file() else source.resolve().name


def metric_of(runs: Sequence[Found]) -> Metric:
    """What all runs are scored by."""
    stated = runs[0].run.metric
    scores = [run.additive.scores for run in runs if isinstance(run.additive, Means)]
    return MIOU if stated is None else stated.metric(np.concatenate(scores))


def study_of(runs: Sequence[Found], file: FolderFile, source: Path, command: str, missing: str, mixed: bool) -> StudyFile:
    """The study as far as no record is needed; its rows name their runs by key.

    Raises:
        UserError: if its rows, seeds, settings or words do not fit together.
    """
    by_row: dict[str, dict[int, Found]] = {}
    for one in runs:
        by_row.setdefault(one.run.row, {})[one.run.seed] = one
    builds_on = _builds_on(by_row, file, source)
    seeds = sorted({one.run.seed for one in runs})
    for row, by_seed in by_row.items():
        if missing == "refuse" and (lacking := [seed for seed in seeds if seed not in by_seed]):
            having = next(one for one in runs if one.run.seed == lacking[0])
            raise UserError(
                f"{next(iter(by_seed.values())).path}: row {row} has no run of seed {lacking[0]}, as row {having.run.row} has "
                f"({having.path}). Add it, or say missing=skip."
            )
    usual = usual_name(source)
    study = StudyFile(
        schema=SCHEMA,
        name=file.name or folder_name(usual),
        title=file.title or file.name or usual,
        question=file.question,
        command=command,
        mixed=mixed,
        factors=file.factors,
        claims=file.claims,
        varies=_varies(by_row, mixed),
        rows=[
            RowFile(row, {}, "", {seed: _key(by_row[row][seed]) if seed in by_row[row] else None for seed in seeds}, on)
            for row, on in builds_on.items()
        ],
    )
    check_words(source, study, builds_on, map(setting_name, study.varies))
    return typed(plain(study), StudyFile, source, "a study", "Say name=NAME, or see docs/other_code.md.")


def _builds_on(by_row: Mapping[str, Any], file: FolderFile, source: Path) -> dict[str, str | None]:
    """Rows in their order, each with the row that it is compared with."""
    rows = [*file.rows] or [*by_row]
    for these, those, what in ((rows, by_row, "has no run"), (by_row, rows, "is not among the rows that are listed")):
        if lacking := [row for row in these if row not in those]:
            raise UserError(f"{source}: row {lacking[0]} {what}. There are {', '.join(by_row)}.")
    if len({*rows}) < len(rows):
        raise UserError(f"{source}: a row is listed twice.")
    if isinstance(file.rows, dict) and file.rows:
        if file.baseline:
            raise UserError(f"{source}: baseline {file.baseline}, but its rows say what each builds on. Leave one out.")
        return dict(file.rows)
    base = file.baseline or ("baseline" if "baseline" in rows else rows[0])
    if base not in rows:
        raise UserError(f"{source}: baseline {base} is no row. There are {', '.join(rows)}.")
    if not file.rows:
        rows.sort(key=lambda row: row != base)
    return {row: None if row == base else base for row in rows}


def _varies(by_row: Mapping[str, Mapping[int, Found]], mixed: bool) -> list[str]:
    """Settings in which rows differ, as keys of their records' configs."""
    settings = {one.path: dict(leaves(_nested(one))) for by_seed in by_row.values() for one in by_seed.values()}
    found = []
    for name in () if mixed else ("parameters", "gigamacs"):
        for by_seed in by_row.values():
            told = {one.path: value for one in by_seed.values() if (value := getattr(one.run, name)) is not None}
            first, value = next(iter(told.items()), (None, 0))
            if second := next((path for path, found in told.items() if not math.isclose(found, value, rel_tol=1e-6)), None):
                raise UserError(
                    f"{second}: {name} is {told[second]:,}, but {value:,} in {first} of the same row. Correct one of them, "
                    "give it a row of its own, or say mixed=true."
                )
    for name in dict.fromkeys(name for one in settings.values() for name in one if name):
        values = {path: json.dumps(one.get(name)) for path, one in settings.items()}
        if len({*values.values()}) == 1:
            continue
        within = [_unlike(by_seed, values) for by_seed in by_row.values()]
        if unlike := next((pair for pair in within if pair), None):
            if not mixed:
                one, other = unlike
                raise UserError(
                    f"{other.path}: setting {name} is {values[other.path]}, but {values[one.path]} in {one.path} of the same "
                    f"row {one.run.row}. Leave out what says nothing of the row, give it a row of its own, or say mixed=true."
                )
        else:
            found.append(f"{SETTINGS}.{name}")
    return found


def _unlike(by_seed: Mapping[int, Found], values: Mapping[Path, str]) -> tuple[Found, Found] | None:
    first = next(iter(by_seed.values()))
    other = next((one for one in by_seed.values() if values[one.path] != values[first.path]), None)
    return None if other is None else (first, other)


def _nested(one: Found) -> dict[str, Any]:
    """The run's settings, ``optimizer.lr`` below ``optimizer``.

    Raises:
        UserError: if a setting has a value and settings below it, or a key is no name.
    """
    found: dict[str, Any] = {}
    for key, value in leaves(one.run.settings):
        *above, last = key.split(".") if key else [""]
        node = found
        for part in above:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise UserError(f"{one.path}: setting {key} stands below {part}, which has a value of its own.")
        if one.run.settings and (not last or last in node):
            raise UserError(f"{one.path}: setting {key!r} has no name, or is there twice.")
        if last:
            node[last] = value
    return found


def _key(one: Found) -> str:
    """Of all that its files say of a run."""
    digest = hashlib.sha256(json.dumps([plain(one.run), one.ids, one.groups], sort_keys=True).encode())
    for part in one.additive:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def record_of(one: Found, metric: Metric, grouping: Grouping | None, source: Path) -> Record:
    """The record of a run, as if it had been trained here; its configuration is what its files say."""
    run, additive = one.run, one.additive
    scored = averaged = None
    if isinstance(additive, Areas):
        scored = Scores.of(additive, run.classes or [str(number) for number in range(additive.true.shape[1])], one.confusion)
    else:
        averaged = Averaged(float(additive.scores.mean()), len(one.ids), metric)
    scored_on = json.dumps([run.data, run.classes, one.ids, plain(metric), grouping and [grouping.groups, grouping.ordered]])
    images = hashlib.sha256(scored_on.encode() + np.ascontiguousarray(additive.shared).tobytes()).hexdigest()
    return Record(
        key=_key(one),
        status=DONE,
        name=run.row,
        label=run.row,
        seed=run.seed,
        manifests={"val": images},
        images={"val": len(one.ids)},
        config={"data": {"name": run.data, "groups": None}, SETTINGS: _nested(one), "seed": run.seed},
        parameters=run.parameters or 0,
        costs=None if run.gigamacs is None else Costs(parameters=run.parameters, gigamacs=run.gigamacs),
        scored=scored,
        averaged=averaged,
        imported=one.path.name if source.is_file() else one.path.relative_to(source).as_posix(),
    )
