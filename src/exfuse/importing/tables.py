"""Scores that other code wrote into tables, a line an image, of one run or of several."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from exfuse.errors import UserError, plural
from exfuse.importing.stated import PAGE, Columns, Found, RunFile, check_image, read_bytes, refuse_twins
from exfuse.metrics.means import Means
from exfuse.store.checked import typed

_TABLE_BYTES = 1 << 29
_LARGEST = 1e75  # score: squares of much larger ones leave what arithmetic holds


def read_table(path: Path, columns: Columns) -> list[Found]:
    """Every run of a table with a line for each image of each."""
    by_run: dict[tuple[str, str], list[_Line]] = {}
    for line in read_lines(path, msgspec.structs.asdict(columns), columns):
        by_run.setdefault((line.row, line.seed), []).append(line)
    if not by_run:
        raise UserError(f"{path} has no line below its titles.")
    found = []
    for (row, seed), lines in by_run.items():
        if not seed.isdecimal() or len(seed) > 18:
            raise UserError(f"{path}, line {lines[0].number}: seed {seed!r} is no whole number from 0 on.")
        run = typed({"row": row, "seed": int(seed)}, RunFile, f"{path}, line {lines[0].number},", "a run", PAGE)
        found.append(averaged_run(path, run, path, lines))
    return found


@dataclass(frozen=True)
class _Line:
    number: int
    row: str
    seed: str
    image: str
    score: float
    group: str | None


def read_lines(path: Path, wanted: Mapping[str, str], columns: Columns) -> Iterator[_Line]:
    """The lines of a table, checked one by one."""
    content = read_bytes(path, _TABLE_BYTES)
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 (byte {error.start}). Save it as CSV in UTF-8.") from error
    head = text.lstrip("\r\n").partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        titles = [title.strip() for title in next(filter(any, reader))]
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
            check_image(cell["image"], where)
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


def averaged_run(path: Path, run: RunFile, table: Path, lines: Sequence[_Line]) -> Found:
    """A run scored image by image."""
    if not lines:
        raise UserError(f"{table} has no line below its titles.")
    ids = tuple(line.image for line in lines)
    whose = f", row {run.row}, seed {run.seed}" if table == path else ""
    refuse_twins(ids, f"{table}{whose}")
    groups = tuple(line.group or "" for line in lines) if lines[0].group is not None else None
    return Found(path, run, ids, Means(np.array([line.score for line in lines])), groups)
