"""A study folder read back: which rows its table has, which runs they rest on, and what became of each run."""

import itertools
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from exfuse.errors import UserError, repeated
from exfuse.files import as_json, write_json
from exfuse.metrics.boundary_areas import RADII, BoundaryAreas
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store import variants
from exfuse.store.checked import plain, read_json, read_plain, sealed
from exfuse.store.consistency import Deviation, find_deviations, refuse
from exfuse.store.costs import MEASURED, TIMED
from exfuse.store.folder import RunFolder, Scored
from exfuse.store.grouping import Grouping, GroupRule, grouping_of
from exfuse.store.measured_costs import MeasuredCosts, read_costs
from exfuse.store.metric import MIOU, Metric
from exfuse.store.record import KEY, RECORD, Record
from exfuse.store.sequential import Sequential
from exfuse.store.tuning import FOLDER as SEARCH, Trial, Tuning, best

FILE, RECORDS, SCHEMA = "study.json", "records", 1
MISSING = "missing"
SETTINGS = "settings"  # where a record's config holds those of other code
_REMEDY = "Run the study's sweep again to write it anew."
_READERS = 4  # threads: they overlap waiting for the disk, not parsing
TOLERANCE = 0.05  # between times of one architecture: a column with more is not shown


class Paper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the paper's table was made with: ``images`` of train and val, backbone, kind of pretraining."""

    table: str
    images: dict[str, int]
    backbone: str
    pretraining: str


BELOW = "below"


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a study's text says beyond each row's difference: that ``row`` lies above, or below, every one of others."""

    row: str
    lies: Literal["above", "below"]
    of: list[str]


class RowFile(msgspec.Struct, frozen=True):
    """A row as study.json holds it: see `StudyRow`; ``runs`` are the keys of its runs by seed, None where none is known."""

    name: str
    options: dict[str, str]
    decoder: str
    runs: dict[int, str | None]
    on: str | None = None
    paper: float | None = None
    paper_trust: str | None = None


# Of a folder on any file system: letters, digits, no path, no dot or blank at the end, and no name that is a device somewhere.
_Name = Annotated[str, Meta(pattern=r"^(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:[. ]|\Z))\w[\w .+-]*(?<![. ])\Z", max_length=80)]
FIGURES = ("ladder", "cost", "classes", "trimap", "effects")  # files that a study's folder may hold, by stem


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """What a study is, as it is declared, written and read back.

    Attributes:
        name: of its folder.
        factors: techniques, or settings of other code, whose combinations its rows are; None for a study that is no factorial.
        varies: settings, such as backbone.output_stride, that rows differ in on purpose.
        edge_radius: px from borders that part edges from interiors in columns of their own; None for a table without.
        groups: says anew which images are not independent; None leaves it to what the runs say.
        claims: of its text.
    """

    name: _Name
    title: str
    question: str = ""
    paper: Paper | None = None
    factors: list[str] | None = None
    varies: list[str] = []
    edge_radius: int | None = None
    groups: GroupRule | None = None
    claims: list[Claim] = []


class _Collected(Heading, frozen=True, kw_only=True):
    """What a sweep adds: its command, whether it is mixed, and how far a search or a sequence of looks is.

    Attributes:
        overrides: of rows that are lists of them, by row.
        settings: of such rows what they differ in, by row, see `exfuse.store.consistency.differences`.
    """

    command: str
    overrides: dict[str, list[str]] = {}
    settings: dict[str, dict[str, Any]] = {}
    mixed: bool = False
    tuning: Tuning | None = None
    sequential: Sequential | None = None


class StudyFile(_Collected, frozen=True, kw_only=True, omit_defaults=True):
    """The content of study.json, see `Study`; ``techniques`` are those of its rows that the package does not hold.

    ``source`` is a digest of the place that results were imported from, where the command names its last folder alone.
    """

    schema: int
    source: str = ""
    rows: list[RowFile]
    techniques: list[variants.Technique] = []


def write_study(folder: Path, study: StudyFile) -> bool:
    """Write ``folder/study.json``, atomically; whether it is another than the one that was there."""
    path, content = folder / FILE, sealed(plain(study))
    if path.is_file() and path.read_text(encoding="utf-8") == as_json(content):
        return False
    write_json(path, content)
    return True


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
    record: Record | None
    folder: RunFolder

    @property
    def done(self) -> Record | None:
        """The record of a finished run, else None."""
        return self.record if self.record and self.record.done else None

    def counts(self) -> NDArray[np.int64]:
        """Per-image confusion counts (images, C, C) of a finished run, read when first asked for.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        return self._counted

    def additive(self) -> Areas | Means:
        """What each image contributes to a finished run's score, read when first asked for.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        return self._scored.additive

    def image_ids(self) -> list[str]:
        """Which images `additive` holds, in its order."""
        return self._scored.ids

    @property
    def grouping(self) -> Grouping | None:
        """Which of a finished run's images are not independent, see `RunFolder.scored`."""
        return self._scored.grouping if self.done else None

    @cached_property
    def boundary_areas(self) -> BoundaryAreas | None:
        """Areas near borders and inside objects of a finished run; None where they were not counted.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        return self.folder.boundary_areas(self.done) if self.done else None

    @cached_property
    def _counted(self) -> NDArray[np.int64]:
        return self.folder.counts(self.record)[0]

    @cached_property
    def _scored(self) -> Scored:
        found, said = self.folder.scored(self.record), self.done
        if said is not None:
            counted = found.additive.whole
            if not math.isclose(counted, said.score, rel_tol=1e-6, abs_tol=1e-6):
                precisely = said.metric.precisely
                raise UserError(
                    f"{self.folder.path}: its record says {precisely(said.score)} {said.metric.name}, and what was counted of "
                    f"its images gives {precisely(counted)}: one of them was altered. Copy it anew, or train it with "
                    "overwrite=true."
                )
        return found


@dataclass(frozen=True)
class StudyRow:
    """One line of a study's table.

    Attributes:
        options: the option of each technique.
        on: name of the row whose difference is shown, or None.
        paper: the paper's mIoU in %, or None.
        paper_trust: how far that number can be trusted: P read from the paper, N second-hand, R recalled.
        runs: by seed.
        techniques: the study's.
        costs: that stand for the records' own, by their names; None for one that was not measured beside the other rows'.
    """

    name: str
    options: Mapping[str, str]
    decoder: str
    on: str | None
    paper: float | None
    paper_trust: str | None
    runs: Mapping[int, Run]
    techniques: Sequence[variants.Technique] = ()
    costs: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name as tables and figures show it, see `exfuse.store.variants.short_name`."""
        return variants.short_name(self.name, self.options, self.decoder, self.techniques)

    def cost(self, key: str) -> float | None:
        """Mean over the finished seeds that know this cost, or what stands for it in ``costs``; None if there is neither."""
        if key in self.costs:
            return self.costs[key]
        known = [float(value) for record in self.records.values() if (value := record.cost(key)) is not None]
        return statistics.fmean(known) if known else None

    def scores(self, scale: float = 1.0) -> dict[int, float]:
        """Of the finished runs by seed, multiplied by ``scale``."""
        return {seed: scale * record.score for seed, record in self.records.items()}

    @cached_property
    def records(self) -> dict[int, Record]:
        """Records of the finished runs by seed."""
        return {seed: run.done for seed, run in self.runs.items() if run.done}


class Study(_Collected, frozen=True, kw_only=True, dict=True):
    """A study and its records. `deviations` is empty unless ``mixed``: `load_study` refuses otherwise.

    Attributes:
        techniques: that its rows name, in order.
        measured: the study's ``costs.json``, which its rows' `StudyRow.costs` come from; None without.
        searched: records of the search's runs by key.
        withheld: times that no row shows, since they differ between rows of one architecture by more than `TOLERANCE`.
    """

    folder: Path
    rows: tuple[StudyRow, ...]
    techniques: tuple[variants.Technique, ...]
    deviations: tuple[Deviation, ...]
    searched: Mapping[str, Record | None]
    measured: MeasuredCosts | None = None
    withheld: tuple[str, ...] = ()

    def row(self, name: str) -> StudyRow:
        """The row of this name."""
        return self._by_name[name]

    @property
    def imported(self) -> bool:
        """Whether other code made its runs: its rows then name no technique."""
        return not self.techniques

    @cached_property
    def metric(self) -> Metric:
        """What its runs are scored by."""
        return next((record.metric for _, _, record in self.done()), MIOU)

    @cached_property
    def _by_name(self) -> dict[str, StudyRow]:
        return {row.name: row for row in self.rows}

    @cached_property
    def deviating(self) -> frozenset[tuple[str, int]]:
        """The (row, seed) whose settings are not those of most runs."""
        return frozenset(run for deviation in self.deviations for run in deviation.runs)

    def grouping(self, run: Run) -> Grouping | None:
        """Which images that a finished run was scored on are not independent; None where all are."""
        return run.grouping if self.groups is None else grouping_of(run.image_ids(), self.groups)

    @property
    def counted(self) -> bool:
        """Whether a score is mIoU of confusion counts summed over the images, rather than a mean of scores of images."""
        return all(record.scored is not None for _, _, record in self.done())

    def done(self) -> list[tuple[StudyRow, int, Record]]:
        """Every finished run: row, seed, record."""
        return self._done

    @cached_property
    def _done(self) -> list[tuple[StudyRow, int, Record]]:
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
    path = folder / FILE
    remedy = f"Move the folder {folder} away and run the study's sweep again."
    file = read_json(path, StudyFile, "a whole study", remedy, SCHEMA)
    _check(file, path)
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
        **{name: getattr(file, name) for name in _Collected.__struct_fields__},
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


def setting_name(key: str) -> str:
    """What people call a setting that a study varies: by its key, and where other code has it, as that calls it."""
    return key.removeprefix(f"{SETTINGS}.")


def check_words(path: Path | str, study: Heading, rows: Mapping[str, str | None], slots: Iterable[str]) -> None:
    """Refuse a study whose words name no row, technique or radius that there is.

    Args:
        path: of what says so.
        rows: by name the row that each builds on; empty where they are not known yet.
        slots: names of the techniques.

    Raises:
        UserError: naming the first.
    """
    there = f"There are {', '.join(rows)}."
    for name, on in rows.items():
        if on is not None and (on not in rows or on == name):
            raise UserError(f"{path}: row {name} builds on {on!r}, which is no other row. {there}")
    if study.edge_radius not in (None, *RADII):
        radii = ", ".join(map(str, RADII))
        raise UserError(f"{path}: edge_radius is {study.edge_radius}, expected one of {radii} (px) or null.")
    for claim in study.claims if rows else ():
        if wrong := [name for name in (claim.row, *claim.of) if name not in rows]:
            raise UserError(f"{path}: a claim speaks of {wrong[0]!r}, which is no row. {there}")
        if not claim.of or claim.row in claim.of:
            raise UserError(f"{path}: a claim about {claim.row} needs other rows to compare it with, got {claim.of}.")
    factors, slots = study.factors or [], [*slots]
    if unknown := [name for name in factors if name not in slots]:
        raise UserError(
            f"{path}: factor {unknown[0]!r} is no technique or setting that rows differ in. There are {', '.join(slots)}."
        )
    if twice := repeated(factors):
        raise UserError(f"{path}: factor {twice[0]!r} is listed twice. List it once.")


def check_place(folder: Path, key: str = "sweep.output") -> None:
    """Refuse a place for a study where something stands that it would write over or remove.

    Args:
        folder: the place.
        key: by which another one is chosen.

    Raises:
        UserError: naming it.
    """
    if not folder.is_dir():
        if os.path.lexists(folder):
            raise UserError(f"{folder} is a file, where a study's folder is to be. Choose another {key}.")
        return
    if (folder / FILE).exists():
        remedy = f"Move the folder {folder} away, or choose another place ({key})."
        if "command" not in read_plain(folder / FILE, "a study", remedy):
            raise UserError(f"{folder / FILE} is not a study: it names no command. {remedy}")
        return
    written = (RECORDS, SEARCH, "table", *FIGURES)
    if found := sorted(path.name for path in folder.iterdir() if path.name in written or path.stem in written):
        raise UserError(f"{folder} holds {found[0]} and no {FILE}: a study would write over it. Choose another {key}.")


def load_sequential(folder: Path) -> Sequential | None:
    """What the study in ``folder`` says of looks that were taken; None where it is none or not sequential."""
    path = folder / FILE
    return read_json(path, StudyFile, "a whole study", _REMEDY, SCHEMA).sequential if path.is_file() else None


def find_studies(folders: list[Path]) -> list[Path]:
    """The study folders among and directly in ``folders``.

    Raises:
        UserError: if a folder is none and holds none.
    """
    found: list[Path] = []
    for folder in folders:
        inside = [folder] if (folder / FILE).is_file() else sorted(path.parent for path in folder.glob(f"*/{FILE}"))
        if not inside:
            made = "A sweep writes one (conf/study/), or exfuse study import."
            raise UserError(f"{folder} holds no study.json and no study folder. {made}")
        found += inside
    return list(dict.fromkeys(found))


def _read_search(file: StudyFile, folder: Path, path: Path) -> dict[str, Record | None]:
    """Records of a tuned study's search; refused if they contradict what study.json says of them."""
    tuning = file.tuning
    if tuning is None:
        return _read_records(folder, set(), path)
    runs = [trial for found in (tuning.trials, tuning.passed_over) for trials in found.values() for trial in trials]
    records = _read_records(folder, {trial.key for trial in runs if trial.key}, path)
    rows = {row.name: row for row in file.rows}
    if strange := [name for name in (*tuning.trials, *tuning.chosen, *tuning.passed_over) if name not in rows]:
        raise UserError(f"{path}: the search knows a row {strange[0]} that the study has not. {_REMEDY}")
    for name in rows:
        trials, passed_over = tuning.trials.get(name, []), tuning.passed_over.get(name, [])
        once = [trial for place, trial in enumerate(trials) if trial not in trials[:place]]  # Optuna may ask for the same again
        if twice := repeated(trial.key for trial in (*once, *passed_over) if trial.key):  # rows may share a run of the search
            raise UserError(f"{path}: the search of row {name} names run {twice[0]} twice. {_REMEDY}")
        for trial in trials:
            if trial.key and (record := records.get(trial.key)):
                _check_claim(record, rows[name], tuning.declared.seed, path, SEARCH)
                _check_settings(record, trial, name, path)
        for trial in passed_over:
            if (record := records.get(trial.key or "")) is None:
                told = f"row {name} passed over {trial.settings} for run {trial.key}, which is not there"
                raise UserError(f"{path}: {told}. {_REMEDY}")
            if not record.diverged or record.seed == tuning.declared.seed or record.setting("held_out.share"):
                told = f"row {name} passed over {trial.settings}, whose run {trial.key} did not diverge with all of train"
                raise UserError(f"{path}: {told}. {_REMEDY}")
            _check_claim(record, rows[name], record.seed, path, SEARCH)
            _check_settings(record, trial, name, path)
        settings = [trial.settings for trial in passed_over]
        if lost := [one for one in settings if one not in [trial.settings for trial in trials]]:
            raise UserError(f"{path}: row {name} passed over {lost[0]}, which its search did not try. {_REMEDY}")
        if (found := best(trials, records, tuning.declared.trials, settings)) != (said := tuning.chosen.get(name)):
            raise UserError(f"{path}: row {name} took {said} from its search, whose records say {found}. {_REMEDY}")
    return records


def _check_settings(record: Record, trial: Trial, row: str, path: Path) -> None:
    """Refuse a trial whose run had other settings."""
    for key, value in trial.settings.items():
        name = key.lstrip("+")
        had = record.choices.get(name, record.setting(name))
        if had != value:
            raise UserError(f"{path}: row {row} tried {key}={value} by run {record.key}, which had {had}. {_REMEDY}")


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


def _check(study: StudyFile, path: Path) -> None:
    """Refuse what the types allow and a table does not."""
    if not study.rows:
        raise UserError(f"{path} has no rows. {_REMEDY}")
    if twice := repeated(row.name for row in study.rows):
        raise UserError(f"{path}: two rows are called {twice[0]}. Names must differ.")
    for row in study.rows:
        if wrong := [key for key in row.runs.values() if key and not KEY.fullmatch(key)]:
            raise UserError(f"{path}: row {row.name} names {wrong[0]!r}, which is no run's key (16 hexadecimal digits).")
    techniques = [name for row in study.rows for name in row.options]
    slots = dict.fromkeys(techniques or map(setting_name, study.varies))
    check_words(path, study, {row.name: row.on for row in study.rows}, slots)
