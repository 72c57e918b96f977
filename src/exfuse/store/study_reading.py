"""A study's folder read back: every record that its study.json names, held against what it says of them."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec

from exfuse.errors import UserError, repeated
from exfuse.store import variants
from exfuse.store.checked import read_json
from exfuse.store.consistency import find_deviations, refuse
from exfuse.store.costs import MEASURED, TIMED
from exfuse.store.folder import RunFolder
from exfuse.store.measured_costs import MeasuredCosts, read_costs
from exfuse.store.record import RECORD, Record
from exfuse.store.study import MISSING, TOLERANCE, Run, Study, StudyRow
from exfuse.store.study_file import FILE, RECORDS, REMEDY, SCHEMA, Collected, RowFile, StudyFile, check_file
from exfuse.store.tuning import FOLDER as SEARCH, Trial, best

_READERS = 4  # threads: they overlap waiting for the disk, not parsing


def load_study(folder: Path, measured: bool = True) -> Study:
    """Read ``folder/study.json`` and the records that it names, each once, and the costs measured afterwards.

    Args:
        folder: of the study.
        measured: False leaves out ``costs.json``, whatever it holds.

    Raises:
        UserError: if study.json or costs.json cannot be used, a record is refused, contradicts its row or belongs to none, or
            the finished runs differ in a setting that a table must hold fixed and the study is not ``mixed``.
    """
    path = folder / FILE
    if not path.exists():
        raise UserError(f"{folder} holds no {FILE}. A sweep writes one (conf/study/), or exfuse study import.")
    remedy = f"Move the folder {folder} away and run the study's sweep again."
    file = read_json(path, StudyFile, "a whole study", remedy, SCHEMA)
    check_file(file, path)
    keys = {key for row in file.rows for key in row.runs.values() if key}
    records = _read_records(folder / RECORDS, keys, path)
    techniques = _techniques(file)
    rows = tuple(_row(row, techniques, records, folder / RECORDS, path) for row in file.rows)
    done = [(row.name, seed, record) for row in rows for seed, record in row.records.items()]
    searched = _read_search(file, folder / SEARCH, path)
    chosen = file.tuning.chosen if file.tuning else {}
    settled = {row.name: {**file.settings.get(row.name, {}), **chosen.get(row.name, {})} for row in file.rows}
    deviations = find_deviations(done, file.varies, settled)
    if deviations and not file.mixed:
        refuse(file.name, deviations)
    study = Study(
        folder=folder,
        rows=rows,
        techniques=techniques,
        deviations=deviations,
        searched=searched,
        **{name: getattr(file, name) for name in Collected.__struct_fields__},
    )
    costs = read_costs(folder) if measured else None
    return _without_unsteady(study if costs is None else _with_costs(study, costs))


def _with_costs(study: Study, costs: MeasuredCosts) -> Study:
    """Times and memory of every row are then the measured ones, or unknown: the records' are not comparable with these."""
    found = [(row, costs.of(row.records.values())) for row in study.rows]
    rows = [replace(row, costs=dict.fromkeys(MEASURED) if own is None else own.values) for row, own in found]
    return msgspec.structs.replace(study, rows=tuple(rows), measured=costs)


# what a step's time and memory depend on beside the model
_PACE = (
    *("trainer.precision", "trainer.accumulate_grad_batches", "trainer.deterministic", "loss", "recipe.batch_size"),
    *("recipe.augmentation.crop", "recipe.optimizer.option", "recipe.ema_decay", "runtime.compile", "runtime.composed"),
    *("runtime.channels_last", "runtime.tf32", "runtime.augment"),
    *("trainer.devices", "trainer.num_nodes", "trainer.more.benchmark"),
)


def _without_unsteady(study: Study) -> Study:
    """Without times that say more of what else the machine did: rows of one architecture are repeats of one measurement.

    That is, of as many parameters and multiply-adds, alike behind the encoder, where options differ in more than these, and
    trained alike.
    """
    behind = [technique.name for technique in study.techniques if technique.place not in ("blocks", "features")]
    alike: dict[tuple[object, ...], list[StudyRow]] = {}
    for row in study.rows:
        costs = row.cost("parameters"), row.cost("gigamacs")
        if None not in costs:
            settings = [str({str(record.setting(name)) for record in row.records.values()}) for name in _PACE]
            alike.setdefault((*costs, row.decoder, *(row.options[name] for name in behind), *settings), []).append(row)
    withheld = tuple(key for key in TIMED if any(_part(row.cost(key) for row in rows) for rows in alike.values()))
    rows = tuple(replace(row, costs={**row.costs, **dict.fromkeys(withheld)}) for row in study.rows)
    return msgspec.structs.replace(study, rows=rows, withheld=withheld)


def _part(times: Iterable[float | None]) -> bool:
    known = [time for time in times if time is not None]
    return bool(known) and max(known) > (1 + TOLERANCE) * min(known)


def _read_search(file: StudyFile, folder: Path, path: Path) -> dict[str, Record | None]:
    """Records of a tuned study's search; refused if they contradict what study.json says of them."""
    tuning = file.tuning
    if tuning is None:
        return _read_records(folder, set(), path)
    runs = [trial for found in (tuning.trials, tuning.passed_over) for trials in found.values() for trial in trials]
    records = _read_records(folder, {trial.key for trial in runs if trial.key}, path)
    rows = {row.name: row for row in file.rows}
    if strange := [name for name in (*tuning.trials, *tuning.chosen, *tuning.passed_over) if name not in rows]:
        raise UserError(f"{path}: the search knows a row {strange[0]} that the study has not. {REMEDY}")
    for name in rows:
        trials, passed_over = tuning.trials.get(name, []), tuning.passed_over.get(name, [])
        once = [trial for place, trial in enumerate(trials) if trial not in trials[:place]]  # Optuna may ask for the same again
        if twice := repeated(trial.key for trial in (*once, *passed_over) if trial.key):  # rows may share a run of the search
            raise UserError(f"{path}: the search of row {name} names run {twice[0]} twice. {REMEDY}")
        for trial in trials:
            if trial.key and (record := records.get(trial.key)):
                _check_claim(record, rows[name], tuning.declared.seed, path, SEARCH)
                _check_settings(record, trial, name, path)
        for trial in passed_over:
            if (record := records.get(trial.key or "")) is None:
                told = f"row {name} passed over {trial.settings} for run {trial.key}, which is not there"
                raise UserError(f"{path}: {told}. {REMEDY}")
            if not record.diverged or record.seed == tuning.declared.seed or record.setting("held_out.share"):
                told = f"row {name} passed over {trial.settings}, whose run {trial.key} did not diverge with all of train"
                raise UserError(f"{path}: {told}. {REMEDY}")
            _check_claim(record, rows[name], record.seed, path, SEARCH)
            _check_settings(record, trial, name, path)
        settings = [trial.settings for trial in passed_over]
        if lost := [one for one in settings if one not in [trial.settings for trial in trials]]:
            raise UserError(f"{path}: row {name} passed over {lost[0]}, which its search did not try. {REMEDY}")
        if (found := best(trials, records, tuning.declared.trials, settings)) != (said := tuning.chosen.get(name)):
            raise UserError(f"{path}: row {name} took {said} from its search, whose records say {found}. {REMEDY}")
    return records


def _check_settings(record: Record, trial: Trial, row: str, path: Path) -> None:
    """Refuse a trial whose run had other settings."""
    for key, value in trial.settings.items():
        name = key.lstrip("+")
        had = record.choices.get(name, record.setting(name))
        if had != value:
            raise UserError(f"{path}: row {row} tried {key}={value} by run {record.key}, which had {had}. {REMEDY}")


def _read_records(folder: Path, keys: set[str], path: Path) -> dict[str, Record | None]:
    present = {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set()
    if stray := sorted(name for name in present - keys if not name.startswith(".")):
        raise UserError(
            f"{folder / stray[0]}: no row of {path} names this record ({len(stray)} such). Remove it, or run the sweep that it "
            "belongs to again."
        )
    found = sorted(present & keys)
    shares = [found[place::_READERS] for place in range(_READERS)]  # a task for each record would take as long as its reading
    with ThreadPoolExecutor(_READERS) as pool:
        read = pool.map(lambda share: [(key, RunFolder(folder, key).record()) for key in share], shares)
        return dict(sorted(itertools.chain(*read)))


def _techniques(file: StudyFile) -> tuple[variants.Technique, ...]:
    """Those that the rows name, as the package and the study itself know them, whatever the config search path holds now."""
    known = {technique.name: technique for technique in (*file.techniques, *variants.own())}
    named = {name for row in file.rows for name in row.options}
    found = [known.get(name) or variants.Technique(name, math.inf, "", "levels", None, name.upper(), name) for name in named]
    return tuple(sorted(found, key=lambda technique: (technique.order, technique.name)))


def _row(
    row: RowFile, techniques: Sequence[variants.Technique], records: Mapping[str, Record | None], folder: Path, path: Path
) -> StudyRow:
    runs = {}
    for seed, key in sorted(row.runs.items()):
        record = records.get(key or "")
        if record is not None:
            _check_claim(record, row, seed, path)
        runs[seed] = Run(seed, record.status if record else MISSING, record, RunFolder(folder, key or ""))
    options = {technique.name: technique.baseline for technique in (*variants.own(), *techniques)} | row.options
    return StudyRow(row.name, options, row.decoder, row.on, row.paper, row.paper_trust, runs, techniques)


def _check_claim(record: Record, row: RowFile, seed: int, study: Path, folder: str = RECORDS) -> None:
    """Refuse a record that is not of the variant and seed that its row says."""
    path = study.parent / folder / record.key / RECORD
    if record.done and not record.has_score:
        raise UserError(f"{path} is not the record of a run that was scored, but {study} names it in row {row.name}.")
    claimed = {f"technique/{name}": option for name, option in row.options.items()} | {"decoder": row.decoder}
    differing = [
        f"{group} is {record.choices[group]}, the row says {option}"
        for group, option in claimed.items()
        if group in record.choices and record.choices[group] != option
    ]
    if record.seed != seed:
        differing.append(f"seed is {record.seed}, the row says {seed}")
    if differing:
        raise UserError(
            f"{path} contradicts row {row.name} of {study}: {'; '.join(differing)}. One of them was exchanged: run the "
            "study's sweep again to write study.json anew."
        )
