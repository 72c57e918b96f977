"""study.json: what a study is, as it is declared, written and read back; where it may be written."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from exfuse.errors import UserError, repeated
from exfuse.files import as_json, write_json
from exfuse.metrics.boundary_areas import RADII
from exfuse.store import variants
from exfuse.store.checked import plain, read_json, read_plain, sealed
from exfuse.store.grouping import GroupRule
from exfuse.store.record import KEY
from exfuse.store.sequential import Sequential
from exfuse.store.tuning import FOLDER as SEARCH, Tuning

FILE, RECORDS, SCHEMA = "study.json", "records", 1
SETTINGS = "settings"  # where a record's config holds those of other code
REMEDY = "Run the study's sweep again to write it anew."


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


class Collected(Heading, frozen=True, kw_only=True):
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


class StudyFile(Collected, frozen=True, kw_only=True, omit_defaults=True):
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
    for name in rows:
        way = [name]
        while (on := rows[way[-1]]) is not None and on not in way:
            way.append(on)
        if on == name:
            raise UserError(f"{path}: rows build on each other in a circle: {', '.join([*way, name])}. Let one build on none.")
    if study.edge_radius not in (None, *RADII):
        radii = ", ".join(map(str, RADII))
        raise UserError(f"{path}: edge_radius is {study.edge_radius}, expected one of {radii} (px) or null.")
    for claim in study.claims if rows else ():
        if wrong := [name for name in (claim.row, *claim.of) if name not in rows]:
            raise UserError(f"{path}: a claim speaks of {wrong[0]!r}, which is no row. {there}")
        if not claim.of or claim.row in claim.of:
            raise UserError(f"{path}: a claim about {claim.row} needs other rows to compare it with, got {claim.of}.")
        if twice := repeated(claim.of):
            raise UserError(f"{path}: a claim about {claim.row} names {twice[0]} twice. Name it once.")
    pairs = [(claim, (claim.row, other)) for claim in study.claims for other in claim.of]
    if twice := repeated(" lies above ".join(pair if claim.lies == "above" else pair[::-1]) for claim, pair in pairs):
        raise UserError(f"{path}: that {twice[0]} is claimed twice. Claim it once.")
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
    return read_json(path, StudyFile, "a whole study", REMEDY, SCHEMA).sequential if path.is_file() else None


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


def check_file(study: StudyFile, path: Path) -> None:
    """Refuse what the types allow and a table does not."""
    if not study.rows:
        raise UserError(f"{path} has no rows. {REMEDY}")
    if twice := repeated(row.name for row in study.rows):
        raise UserError(f"{path}: two rows are called {twice[0]}. Names must differ.")
    for row in study.rows:
        if wrong := [key for key in row.runs.values() if key and not KEY.fullmatch(key)]:
            raise UserError(f"{path}: row {row.name} names {wrong[0]!r}, which is no run's key (16 hexadecimal digits).")
    techniques = [name for row in study.rows for name in row.options]
    slots = dict.fromkeys(techniques or map(setting_name, study.varies))
    check_words(path, study, {row.name: row.on for row in study.rows}, slots)
