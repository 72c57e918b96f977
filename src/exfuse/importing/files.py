"""What other code may write of its runs, read file by file; whatever cannot be used ends in one line that names the file."""

import csv
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import yaml
from msgspec import Meta
from numpy.lib import format as npy
from numpy.typing import NDArray

from exfuse.config.search_path import YamlLoader
from exfuse.errors import UserError, plural, repeated
from exfuse.limits import BARE, Amount, Count, Seed
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store.checked import typed
from exfuse.store.grouping import GroupRule
from exfuse.store.metric import Metric, MetricName, MetricUnit
from exfuse.store.study import Claim

STUDY_FILES = ("study.yaml", "study.yml", "study.json")
PAGE = "See docs/other_code.md."
_LONGEST = 500  # characters of an image's name
_TEXT_BYTES, _TABLE_BYTES = 1 << 20, 1 << 29  # of a file of settings, of a table
_LARGEST = 1e75  # score: squares of much larger ones leave what arithmetic holds
_MOST_NUMBERS = 1 << 28  # in an array: 2 GiB of counts
_SUMMARIES = {"mean", "average", "avg", "median", "std", "sd", "min", "max", "sum", "total", "overall", "all"}
_COUNTED = {"counts": ("counts",), "areas": ("hit", "true", "predicted"), "rates": ("tp", "fp", "fn")}

Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=BARE)]
Ids = tuple[str, ...]


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the score is called, in which unit the files give it and which direction is better; see `Metric`."""

    name: MetricName
    unit: MetricUnit
    better: Literal["higher", "lower"]
    digits: Annotated[int, Meta(ge=0, le=9)] | None = None

    def metric(self, scores: NDArray[np.float64]) -> Metric:
        """With as many digits as show three significant ones, unless they are said or the unit is one of shares."""
        found = Metric(self.name, self.unit, self.better)
        digits, size = self.digits, float(np.abs(scores).mean())
        if digits is None and found.top is None:
            digits = min(9, max(0, 2 - math.floor(math.log10(size)))) if size > 0 else found.digits
        return msgspec.structs.replace(found, digits=found.digits if digits is None else digits)


class RunFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``RUN.json``: what a run is, beside ``RUN.npz`` or ``RUN.csv`` with what it scored; see docs/other_code.md."""

    row: Name
    seed: Seed
    settings: dict[str, Any] = {}
    data: str = ""
    classes: list[Name] | None = None
    metric: Score | None = None
    parameters: Count | None = None
    gigamacs: Amount | None = None


class FolderFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``study.yaml``: what holds for all runs of a folder; every field may be left out. See docs/other_code.md."""

    name: str = ""
    title: str = ""
    question: str = ""
    data: str = ""
    classes: list[Name] | None = None
    metric: Score | None = None
    rows: list[Name] | dict[Name, str | None] = []
    baseline: str = ""
    factors: list[str] | None = None
    claims: list[Claim] = []
    groups: GroupRule | None = None


class Columns(msgspec.Struct, frozen=True):
    """What the columns of tables are called; ``seed`` may be a number instead, that of all of a table's runs."""

    row: str = "row"
    seed: str = "seed"
    image: str = "image"
    score: str = "score"
    group: str = "group"


@dataclass(frozen=True)
class Found:
    """One run as its files tell it.

    Attributes:
        path: of the file that says which run it is.
        ids, groups: of its images; the latter None where no group is told.
        confusion: counts (C, C) of all images, where they are known.
    """

    path: Path
    run: RunFile
    ids: Ids
    additive: Areas | Means
    groups: Ids | None = None
    confusion: NDArray[np.int64] | None = None

    @property
    def where(self) -> str:
        """The file, and where it is a table of several runs, which of them."""
        return f"{self.path} (row {self.run.row}, seed {self.run.seed})" if self.path.suffix == ".csv" else str(self.path)


def read_results(folder: Path, columns: Columns) -> tuple[FolderFile, list[Found], list[Path]]:
    """Everything that a folder says, its runs by path, or by row of the table that holds them; or a table alone.

    Returns:
        What holds for all of them, the runs, and the files that were left out.

    Raises:
        UserError: naming the first file that cannot be used, and why.
    """
    if folder.is_file():
        return FolderFile(), [*_table(folder, columns)], []
    if not folder.is_dir():
        raise UserError(f"No folder {folder}: expected one with result files. {PAGE}")
    below = [path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    every = sorted(path for path in below if path.is_symlink() or not path.is_dir())
    shared = [path for path in every if path.parent == folder and path.name in STUDY_FILES]
    if len(shared) > 1:
        raise UserError(f"{shared[1]} and {shared[0]} both say what holds for all runs: keep one of them.")
    file = _stated(shared[0], FolderFile, "what holds for all runs") if shared else FolderFile()
    by_stem: dict[Path, dict[str, Path]] = {}
    for path in every:
        if path not in shared and path.suffix in (".json", ".npz", ".csv"):
            by_stem.setdefault(path.with_suffix(""), {})[path.suffix] = path
    found = [run for parts in by_stem.values() for run in _runs(parts, columns)]
    if not found:
        raise UserError(f"{folder} holds no result file: expected RUN.json with RUN.npz or RUN.csv, or a table. {PAGE}")
    read = {*shared, *(path for parts in by_stem.values() for path in parts.values())}
    return file, found, [path for path in every if path not in read]


def _runs(parts: Mapping[str, Path], columns: Columns) -> Iterator[Found]:
    """What one name's files hold: one run, or a table of several."""
    said, counts, table = (parts.get(suffix) for suffix in (".json", ".npz", ".csv"))
    if counts is not None and table is not None:
        raise UserError(f"{table} and {counts.name} lie side by side: a run is scored by one of them. Move the other away.")
    if said is None:
        if counts is not None:
            raise UserError(f"{counts} has no {counts.with_suffix('.json').name} beside it, which says row and seed. {PAGE}")
        assert table is not None
        yield from _table(table, columns)
        return
    run = _stated(said, RunFile, "what a run is")
    if counts is not None:
        yield _counted(said, run, counts)
    elif table is not None:
        wanted = {"image": columns.image, "score": columns.score, "group": columns.group}
        lines = [*_lines(table, wanted, columns)]
        yield _averaged(said, run, table, lines)
    else:
        raise UserError(f"{said} has no {said.stem}.npz or {said.stem}.csv beside it, with what each image scored. {PAGE}")


# Text.


def _bytes(path: Path, most: int) -> bytes:
    if path.is_symlink():
        raise UserError(f"{path} is a link, which may lead anywhere: copy the file itself.")
    if not path.is_file():
        raise UserError(f"{path} is no file.")
    if (size := path.stat().st_size) > most:
        raise UserError(f"{path} has {size / 1e6:.0f} MB, expected {most / 1e6:.0f} at most. Is that the file you meant?")
    if size == 0:
        raise UserError(f"{path} is empty.")
    return path.read_bytes()


def _stated(path: Path, kind: type[Any], what: str) -> Any:
    """A JSON or YAML file as ``kind``."""
    content, remedy = _bytes(path, _TEXT_BYTES), f"It has the keys {', '.join(kind.__struct_fields__)}. {PAGE}"
    try:
        if path.suffix == ".json":
            msgspec.json.decode(content)  # which takes no NaN
            plain = json.loads(content, object_pairs_hook=_once)
        else:
            plain = yaml.load(content, YamlLoader)
    except (msgspec.MsgspecError, yaml.YAMLError, ValueError, RecursionError) as error:
        form = "JSON" if path.suffix == ".json" else "YAML"
        problem = " ".join(str(error).split())
        raise UserError(f"{path} is no {form} in UTF-8 ({problem}). {PAGE}") from error
    found = typed(plain, kind, path, what, remedy)
    for text in _texts(plain):
        if not text.isprintable():
            raise UserError(f"{path} holds {text[:40]!r}: expected text that can be shown in one line.")
    return found


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping of these pairs, of which readers would drop all but the last of one name.

    Raises:
        ValueError: if two have one name.
    """
    if twice := repeated(name for name, _ in pairs):
        raise ValueError(f"{twice[0]} stands there twice")
    return dict(pairs)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from (*_texts(name), *_texts(value))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


# Tables of scores.


def _table(path: Path, columns: Columns) -> list[Found]:
    """Every run of a table with a line for each image of each."""
    by_run: dict[tuple[str, str], list[_Line]] = {}
    for line in _lines(path, msgspec.structs.asdict(columns), columns):
        by_run.setdefault((line.row, line.seed), []).append(line)
    if not by_run:
        raise UserError(f"{path} has no line below its titles.")
    found = []
    for (row, seed), lines in by_run.items():
        if not seed.isdecimal() or len(seed) > 18:
            raise UserError(f"{path}, line {lines[0].number}: seed {seed!r} is no whole number from 0 on.")
        run = typed({"row": row, "seed": int(seed)}, RunFile, f"{path}, line {lines[0].number},", "a run", PAGE)
        found.append(_averaged(path, run, path, lines))
    return found


@dataclass(frozen=True)
class _Line:
    number: int
    row: str
    seed: str
    image: str
    score: float
    group: str | None


def _lines(path: Path, wanted: Mapping[str, str], columns: Columns) -> Iterator[_Line]:
    """The lines of a table, checked one by one."""
    content = _bytes(path, _TABLE_BYTES)
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 (byte {error.start}). Save it as CSV in UTF-8.") from error
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        titles = [title.strip() for title in next(reader)]
        places = _places(path, titles, wanted)
        fixed = columns.seed if columns.seed.isdecimal() else ""
        for cells in reader:
            number = reader.line_num
            if not any(cells):
                continue
            if len(cells) != len(titles):
                raise UserError(f"{path}, line {number}: {plural(len(cells), 'cell')} under {plural(len(titles), 'title')}.")
            cell = {key: cells[place].strip() for key, place in places.items()}
            if empty := [wanted[key] for key, value in cell.items() if not value]:
                raise UserError(f"{path}, line {number}: nothing in column {empty[0]}.")
            where = f"{path}, line {number}"
            for key in ("row", "group"):
                if not cell.get(key, "").isprintable():
                    raise UserError(f"{where}: {cell[key][:40]!r} in column {wanted[key]} has characters that cannot be shown.")
            _check_image(cell["image"], where)
            score = _number(cell["score"], where)
            seed = fixed or cell.get("seed", "")
            yield _Line(number, cell.get("row", ""), seed, cell["image"], score, cell.get("group"))
    except (csv.Error, StopIteration) as error:
        raise UserError(f"{path} is no table: {error or 'it has no line'}. {PAGE}") from error


def _places(path: Path, titles: Sequence[str], wanted: Mapping[str, str]) -> dict[str, int]:
    """Where each of our columns stands; a group is needed by nobody."""
    places = {}
    for key, title in wanted.items():
        if key == "seed" and title.isdecimal():
            continue
        if titles.count(title) > 1:
            raise UserError(f"{path} has two columns {title!r}.")
        if title in titles:
            places[key] = titles.index(title)
        elif key != "group":
            there = ", ".join(titles)[:200]
            hint = (
                " Where all runs have one seed, say it: columns.seed=0."
                if key == "seed"
                else f" Say which: columns.{key}=NAME."
            )
            raise UserError(f"{path} has no column {title!r}; there are {there}.{hint} {PAGE}")
    return places


def _number(text: str, where: str) -> float:
    try:
        score = math.nan if "_" in text else float(text)  # Python alone takes 0_5 for 5
    except ValueError:
        score = math.nan
    if not abs(score) <= _LARGEST:
        remedy = "Write a point before decimals" if "," in text else "Leave the image out of all runs, or say what it scores"
        raise UserError(f"{where}: score {text[:40]!r} is not a number up to {_LARGEST:g}. {remedy}.")
    return score


def _check_image(name: str, where: str) -> None:
    if not name or len(name) > _LONGEST or not name.isprintable():
        raise UserError(f"{where}: {name[:40]!r} is no image's name: expected 1 to {_LONGEST} characters that can be shown.")
    if name.casefold() in _SUMMARIES:
        raise UserError(f"{where}: an image called {name!r} looks like a summary of the others. Remove that line.")


def _averaged(path: Path, run: RunFile, table: Path, lines: Sequence[_Line]) -> Found:
    """A run scored image by image."""
    if not lines:
        raise UserError(f"{table} has no line below its titles.")
    ids = tuple(line.image for line in lines)
    whose = f", row {run.row}, seed {run.seed}" if table == path else ""
    _refuse_twins(ids, f"{table}{whose}")
    groups = tuple(line.group or "" for line in lines) if lines[0].group is not None else None
    return Found(path, run, ids, Means(np.array([line.score for line in lines])), groups)


def _refuse_twins(ids: Ids, where: str) -> None:
    if twice := repeated(ids):
        raise UserError(f"{where}: image {twice[0]} stands there twice.")


# Arrays of counts.


def _counted(path: Path, run: RunFile, file: Path) -> Found:
    """A run whose pixels were counted image by image."""
    arrays = _arrays(file)
    forms_there = [names for names in _COUNTED.values() if {*names} <= {*arrays}]
    if len(forms_there) > 1:
        raise UserError(f"{file} counts twice, by {' and by '.join(', '.join(names) for names in forms_there)}: keep one.")
    form = next(iter(forms_there), None)
    if form is None or "ids" not in arrays:
        forms = " or ".join(", ".join(names) for names in _COUNTED.values())
        raise UserError(f"{file} holds {', '.join(sorted(arrays)) or 'nothing'}: expected ids and {forms}. {PAGE}")
    ids = _names(arrays["ids"], f"{file}, ids")
    _refuse_twins(ids, f"{file}, ids")
    counts = [_whole(arrays[name], f"{file}, {name}", 3 if name == "counts" else 2, len(ids)) for name in form]
    if len({one.shape for one in counts}) > 1:
        raise UserError(f"{file}: {', '.join(form)} have shapes {', '.join(str(one.shape) for one in counts)}: expected one.")
    if form == _COUNTED["counts"] and counts[0].shape[1] != counts[0].shape[2]:
        raise UserError(f"{file}, counts has shape {counts[0].shape}: expected (images, classes, classes).")
    areas = _areas(form, counts)
    wrong = (areas.hit > areas.true) | (areas.hit > areas.predicted)
    if wrong.any():
        image, which = (int(place) for place in np.argwhere(wrong)[0])
        raise UserError(
            f"{file} does not add up: image {ids[image]}, class {which}, has {areas.hit[image, which]} pixels hit of "
            f"{areas.true[image, which]} true and {areas.predicted[image, which]} predicted ones."
        )
    if not areas.true.any():
        raise UserError(f"{file} counts no true pixel in any image.")
    groups = _names(arrays["groups"], f"{file}, groups") if "groups" in arrays else None
    if groups is not None and len(groups) != len(ids):
        raise UserError(f"{file} names {plural(len(groups), 'group')} of {plural(len(ids), 'image')}: expected one of each.")
    return Found(path, run, ids, areas, groups, counts[0].sum(0) if form == _COUNTED["counts"] else None)


def _areas(form: Sequence[str], counts: Sequence[NDArray[np.int64]]) -> Areas:
    if form == _COUNTED["counts"]:
        return Areas.of_counts(counts[0])
    if form == _COUNTED["areas"]:
        return Areas(*counts)
    hit, false, missed = counts
    return Areas(hit, hit + missed, hit + false)


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz that may be used; what is pickled is never read."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size == 0:
        _bytes(file, 0)
    known = {"ids", "groups", *(name for names in _COUNTED.values() for name in names)}
    found = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                if name in known:
                    with archive.open(member) as opened:
                        found[name] = _array(opened, f"{file}, {name}")
    except UserError:
        raise
    except Exception as error:  # of zip, four ways of compressing and a header that is Python: of any kind
        raise UserError(f"{file} is no whole .npz file ({' '.join(str(error).split())}). Write it anew by np.savez.") from error
    return found


def _array(opened: Any, where: str) -> NDArray[Any]:
    """One array, whose header is held against what may be read before any of it is."""
    version = npy.read_magic(opened)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_column, kind = read(opened)
    if kind.hasobject:
        raise UserError(
            f"{where} holds pickled objects, which are never read: write it as numbers, or names by np.array(names, str)."
        )
    if kind.kind not in "iufUS":
        raise UserError(f"{where} holds {kind}: expected numbers, or names.")
    number = math.prod(shape)
    if number > _MOST_NUMBERS or number * kind.itemsize > 8 * _MOST_NUMBERS:
        raise UserError(
            f"{where} would have {number} numbers, expected {_MOST_NUMBERS} at most. Count areas (hit, true, predicted)."
        )
    content = opened.read(number * kind.itemsize)
    if len(content) < number * kind.itemsize:
        raise EOFError(f"{where} is cut short")
    return np.frombuffer(content, kind).reshape(shape, order="F" if by_column else "C")


def _whole(values: NDArray[Any], where: str, dimensions: int, images: int) -> NDArray[np.int64]:
    """Counts as whole numbers from 0 on."""
    if values.ndim != dimensions or values.shape[0] != images or values.size == 0:
        expected = ", ".join([str(images), "classes", "classes"][:dimensions])
        raise UserError(f"{where} has shape {values.shape}: expected ({expected}), an entry for each of the {images} ids.")
    if values.dtype.kind not in "iuf":
        raise UserError(f"{where} holds text: expected counts.")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise UserError(f"{where} holds what is not a number: expected counts.")
        if (values != np.rint(values)).any():
            fraction = values[values != np.rint(values)].flat[0]
            raise UserError(f"{where} holds {fraction:g}: counts are whole numbers of pixels, not shares of them.")
    if (values < 0).any():
        raise UserError(f"{where} holds {values.min():g}: counts are 0 or more.")
    if float(values.sum(dtype=np.float64)) > 2**53:
        raise UserError(f"{where} counts {values.sum(dtype=np.float64):g} pixels, more than any data set has.")
    return values.astype(np.int64)


def _names(values: NDArray[Any], where: str) -> Ids:
    """Names of images or groups, which may be numbers."""
    if values.ndim != 1 or values.dtype.kind == "f" or len(values) == 0:
        raise UserError(f"{where} has shape {values.shape} and holds {values.dtype}: expected a list of names.")
    try:
        names = tuple(one.decode() if isinstance(one, bytes) else str(one) for one in values.tolist())
    except UnicodeDecodeError as error:
        raise UserError(f"{where} holds names that are not in UTF-8.") from error
    for name in names:
        _check_image(name, where)
    return names
