"""What `exfuse study import` does: runs of other code held against each other, then kept as a study's records and shown."""

import hashlib
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from exfuse.config.words import as_typed
from exfuse.errors import UserError, some
from exfuse.files import folder_name, sha256, write_atomically
from exfuse.importing.files import PAGE, Columns, FolderFile, Found, Score, read_results
from exfuse.limits import NonNegative, Text
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store.checked import leaves, plain, read_json, typed
from exfuse.store.costs import Costs
from exfuse.store.folder import IMPORTED, RunFolder
from exfuse.store.grouping import COLUMN, Grouping, grouping_of
from exfuse.store.metric import MIOU, Metric
from exfuse.store.record import DONE, Averaged, Record, Scores
from exfuse.store.study import (
    FILE,
    RECORDS,
    SCHEMA,
    SETTINGS,
    RowFile,
    StudyFile,
    check_place,
    check_words,
    setting_name,
    write_study,
)
from exfuse.terminal import Console

_SHOWN = 3  # files that a note names
_PER_CENT = 1.0  # scores that are all below this would be a strange percentage
_APART = 20  # times: a fraction and a percentage of the same kind are some hundred


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
        file = msgspec.structs.replace(file, metric=typed(stated, Score, "metric", "what scores are", _METRIC))
    said = {"name": name, "title": title, "data": dataset, "baseline": baseline}
    file = msgspec.structs.replace(file, **{key: value for key, value in said.items() if value})
    runs, grouping = _together(found, file, source)
    metric = _metric(runs)
    command = _command(source, {**said, **{f"metric.{key}": value for key, value in named.items()}}, columns, missing, mixed)
    study = _study(runs, file, source, command, missing, mixed)
    target = Path(output) if output else Path("outputs/studies") / study.name
    study = msgspec.structs.replace(study, source=_marks(source, target)[0 if source.is_absolute() else 1])
    _check_target(target, source, study)
    records = [_record(run, metric, grouping, source) for run in runs]
    for note in () if quiet else _notes(runs, records, metric, study, left_out):
        print(f"Note: {note}", file=sys.stderr)
    _write(target, study, runs, records, grouping)
    render_study(target, Console(quiet=quiet))


def _usual_name(source: Path) -> str:
    """Of a study whose files name none."""
    return source.stem if source.is_file() else source.resolve().name


_METRIC = "Say all three: metric.name=Dice metric.unit=fraction metric.better=higher; see docs/other_code.md."


def _together(found: Sequence[Found], file: FolderFile, source: Path) -> tuple[list[Found], Grouping | None]:
    """The runs on the images of the first, in its order, complete with what holds for all; and the images' groups.

    Raises:
        UserError: if they do not belong together.
    """
    usual = file.name or _usual_name(source)
    for one in found:
        for what, own, shared in (
            ("data", one.run.data, file.data),
            ("classes", one.run.classes, file.classes),
            ("metric", plain(one.run.metric), plain(file.metric)),
        ):
            if own and shared and own != shared:
                raise UserError(
                    f"{one.where} has other {what} than are said of all runs: {_differing(own, shared)}. Correct one, or leave "
                    "one out."
                )
    runs = [
        replace(
            one,
            run=msgspec.structs.replace(
                one.run,
                data=one.run.data or file.data or usual,
                classes=one.run.classes or file.classes,
                metric=one.run.metric or file.metric,
            ),
        )
        for one in found
    ]
    first, cells = runs[0], dict[tuple[str, int], Path]()
    for one in runs:
        cell = one.run.row, one.run.seed
        if cell in cells:
            raise UserError(f"{one.where} is row {cell[0]}, seed {cell[1]}, as {cells[cell]} is: two runs of one cell.")
        cells[cell] = one.path
        _check_alike(one, first)
    if len(first.ids) < 2:
        raise UserError(f"{first.where} scores {len(first.ids)} image: intervals need two or more.")
    aligned = [_in_order(one, first) for one in runs]
    for one in aligned:
        _check_truth(one, aligned[0])
    return aligned, _grouping(aligned[0], file)


def _check_alike(one: Found, first: Found) -> None:
    if type(one.additive) is not type(first.additive):
        raise UserError(f"{one.where} has {_kind(one)}, {first.where} {_kind(first)}: one table is of one kind.")
    for what, ours, theirs in (
        ("data", one.run.data, first.run.data),
        ("metric", plain(one.run.metric), plain(first.run.metric)),
        ("classes", one.run.classes, first.run.classes),
    ):
        if ours != theirs:
            raise UserError(
                f"{one.where} has other {what} than {first.where}: {_differing(ours, theirs)}. One table is of one."
            )
    classes = _classes(one)
    if classes != _classes(first):
        raise UserError(f"{one.where} counts {classes} classes, {first.where} {_classes(first)}: one table is of one data set.")
    if classes is not None and one.run.classes is not None and len(one.run.classes) != classes:
        raise UserError(f"{one.where} counts {classes} classes, but {len(one.run.classes)} are named.")
    if one.run.classes is not None and len({*one.run.classes}) < len(one.run.classes):
        raise UserError(f"{one.where}: two classes have one name.")
    if isinstance(one.additive, Means) and one.run.metric is None:
        raise UserError(f"{one.where} has scores, and nothing says of what. {_METRIC}")
    if isinstance(one.additive, Areas) and one.run.metric is not None:
        raise UserError(f"{one.where} has counts, of which mIoU is computed here: leave out metric ({one.run.metric.name}).")
    more, same = sorted((one, first), key=_predicts_more, reverse=True)
    if _predicts_more(more) and _adds_up(same) and _errs(same):
        raise UserError(
            f"{more.where} counts more predicted pixels than true ones, {same.where} as many of both: one of them counts "
            "predictions where the truth is void. Count all runs alike."
        )
    if extra := sorted({*one.ids} - {*first.ids}):
        raise UserError(f"{one.where} scores an image {extra[0]} that {first.where} does not ({len(extra)} such).")
    if lacking := sorted({*first.ids} - {*one.ids}):
        raise UserError(f"{one.where} does not score image {lacking[0]}, as {first.where} does ({len(lacking)} such).")


def _differing(ours: Any, theirs: Any) -> str:
    if isinstance(ours, list) and isinstance(theirs, list):
        place = next((place for place, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        return f"{len(ours)} and {len(theirs)}" if place is None else f"{ours[place]} and {theirs[place]} in place {place}"
    return f"{'nothing' if ours is None else ours} and {'nothing' if theirs is None else theirs}"


def _kind(one: Found) -> str:
    return "counts" if isinstance(one.additive, Areas) else "scores"


def _classes(one: Found) -> int | None:
    return one.additive.true.shape[1] if isinstance(one.additive, Areas) else None


def _in_order(one: Found, first: Found) -> Found:
    if one.ids == first.ids:
        return one
    place = {id: number for number, id in enumerate(one.ids)}
    order = [place[id] for id in first.ids]
    groups = None if one.groups is None else tuple(one.groups[number] for number in order)
    return replace(one, ids=first.ids, additive=one.additive.at(order), groups=groups)


def _check_truth(one: Found, first: Found) -> None:
    if one.groups != first.groups:
        raise UserError(f"{one.where} puts images into other groups than {first.where}.")
    ours, theirs = one.additive.shared, first.additive.shared
    if not np.array_equal(ours, theirs):
        image, which = (int(place) for place in np.argwhere(ours != theirs)[0])
        name = one.run.classes[which] if one.run.classes else which
        raise UserError(
            f"{one.where} does not add up with {first.where}: image {one.ids[image]} has {ours[image, which]} true pixels of "
            f"class {name} in the one and {theirs[image, which]} in the other. Score all runs against the same masks."
        )
    if isinstance(one.additive, Means) and one.run.metric is not None:
        top, scores = Metric(unit=one.run.metric.unit).top, one.additive.scores
        if top is not None and (wrong := (scores < 0) | (scores > top)).any():
            image = int(np.argmax(wrong))
            raise UserError(
                f"{one.where}: image {one.ids[image]} scores {scores[image]:g}, which is no {one.run.metric.unit}: expected 0 "
                f"to {top:g}. The unit is fraction, percent or one of your own, such as px."
            )


def _grouping(first: Found, file: FolderFile) -> Grouping | None:
    rule = file.groups
    if rule is None or rule.by == COLUMN:
        if first.groups is None:
            if rule is not None:
                raise UserError(f"{first.path}: groups are said to stand beside the images, but none do. {PAGE}")
            return None
        found = Grouping(first.groups, rule is not None and rule.ordered)
    else:
        found = grouping_of(first.ids, rule)
    return None if found.alone else found


def _metric(runs: Sequence[Found]) -> Metric:
    stated = runs[0].run.metric
    scores = [run.additive.scores for run in runs if isinstance(run.additive, Means)]
    return MIOU if stated is None else stated.metric(np.concatenate(scores))


def _study(runs: Sequence[Found], file: FolderFile, source: Path, command: str, missing: str, mixed: bool) -> StudyFile:
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
    usual = _usual_name(source)
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


def _record(one: Found, metric: Metric, grouping: Grouping | None, source: Path) -> Record:
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


def _notes(
    runs: Sequence[Found], records: Sequence[Record], metric: Metric, study: StudyFile, left_out: Sequence[Path]
) -> Iterator[str]:
    """What may be a mistake and may be meant."""
    if left_out:
        yield f"left out, being no results: {some([*map(str, left_out)], _SHOWN)}."
    seen: dict[bytes, Found] = {}
    for one in runs:
        content = b"".join(np.ascontiguousarray(part).tobytes() for part in one.additive)
        other = seen.setdefault(hashlib.sha256(content).digest(), one)
        if other is not one:
            yield f"{_called(one)} scored just as {_called(other)} did, image by image: is it a copy?"
    scores = [abs(record.score) for record in records]
    low = [one for one, score in zip(runs, scores, strict=True) if metric.unit == "percent" and score < _PER_CENT]
    if len(low) == len(runs):
        yield "all scores are below 1 %: if they are fractions, say metric.unit=fraction."
    elif low and max(scores) > _APART * max(score for score in scores if score < _PER_CENT):
        yield f"{_all_called(low)} below 1 %, others up to {max(scores):.1f} %: are they fractions among percentages?"
    if beyond := [one for one in runs if _predicts_more(one)]:
        yield (
            f"{_all_called(beyond)} counted with more predicted pixels than true ones: leave out pixels whose truth is void, "
            "unless classes were left out on purpose."
        )
    if len(study.rows) > 1 and not any(row.on is None for row in study.rows):
        yield "every row builds on another."


def _called(one: Found) -> str:
    return f"row {one.run.row}, seed {one.run.seed} ({one.path.name})"


def _all_called(several: Sequence[Found]) -> str:
    first = _called(several[0])
    return f"{first} is" if len(several) == 1 else f"{first} and {len(several) - 1} more are"


def _beyond(one: Found) -> NDArray[np.int64]:
    """How many more pixels of each image are predicted than are true: none where void is left out.

    Fewer are, where a network predicts classes that are not scored.
    """
    return np.zeros(1, np.int64) if isinstance(one.additive, Means) else (one.additive.predicted - one.additive.true).sum(-1)


def _predicts_more(one: Found) -> bool:
    """In some image, and fewer in none, as where classes are left out."""
    beyond = _beyond(one)
    return bool(beyond.max() > 0 and beyond.min() >= 0)


def _adds_up(one: Found) -> bool:
    return not _beyond(one).any()


def _errs(one: Found) -> bool:
    """A run without errors adds up whatever was left out."""
    return isinstance(one.additive, Areas) and bool((one.additive.hit < one.additive.true).any())


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
