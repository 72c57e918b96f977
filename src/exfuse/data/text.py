"""Text files that come with data: lists of ids and of class names, whichever program wrote them."""

import codecs
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from exfuse.errors import CONTROL, DataError, plural, repeated

_BY_MARK = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_NUMBERED = re.compile(r"\d+[\s,;:.]+\S")
_BREAKS = re.compile(rf"{CONTROL.pattern}|[\t\n\r\u2028\u2029]")  # what cannot be shown in one line
_LONGEST = 200  # characters of a name that also becomes a file's


def read_lines(path: Path, hint: str) -> list[str]:
    """The lines of a text file that are not empty, without blanks around them: UTF-8, or UTF-16 that says so (BOM).

    Raises:
        DataError: if the file is missing, for which ``hint`` says what to do, or of another encoding.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"No list file {path}. {hint}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). {hint}") from error
    encoding = next((name for mark, name in _BY_MARK.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
        if "\0" in text:
            raise ValueError("a zero byte")
    except ValueError as error:
        raise DataError(
            f"{path} is no text in UTF-8, nor in UTF-16 with a mark at its start ({error}). Save it as UTF-8."
        ) from error
    return [line for line in map(str.strip, text.splitlines()) if line]


def read_id_list(path: Path, hint: str) -> list[str]:
    """The ids in a list file, one a line.

    Raises:
        DataError: see `read_lines`; or if a line is no id, or an id is listed twice.
    """
    ids = read_lines(path, hint)
    for number, line in enumerate(ids, 1):
        if len(columns := line.split()) > 1:
            raise DataError(
                f"{path}, entry {number}: {line!r} has {plural(len(columns), 'column')}, expected one id "
                f"a line. Lists of one class, "
                "such as VOC's cat_train.txt, say behind each id whether the class is there (1, 0, -1): give that of all."
            )
    check_ids(ids, str(path))
    return ids


def read_groups(path: Path, hint: str) -> dict[str, str]:
    """The second column of a list file by the first, its ids: the group of every image.

    Raises:
        DataError: see `read_lines`; or if a line has not just two columns, or an id is none or listed twice.
    """
    pairs = [line.rsplit(None, 1) for line in read_lines(path, hint)]  # an id may hold blanks
    for number, columns in enumerate(pairs, 1):
        if len(columns) != 2:
            raise DataError(f"{path}, entry {number}: expected an id and its group, got {columns[0]!r} alone.")
    check_ids([id for id, _ in pairs], str(path))
    return {columns[0]: columns[1] for columns in pairs}


def check_ids(ids: Iterable[str], where: str) -> None:
    """Refuse ids by which no file can be called, and those that occur twice.

    Args:
        ids: names of files without ending.
        where: they stand, for the message.

    Raises:
        DataError: naming the first of them.
    """
    ids = list(ids)
    for id in ids:
        if id in ("", ".", "..") or len(id) > _LONGEST or _BREAKS.search(id) or {*id} & {*"/\\"}:
            raise DataError(
                f"{where} names {id[:_LONGEST]!r}: expected the name of a file, without its folder. Correct the name."
            )
    _refuse_twins(ids, where, "Remove one of the lines.")


def read_class_names(path: Path) -> list[str]:
    """Names of classes, one a line, the first being id 0.

    Raises:
        DataError: see `read_lines`; or if the file has columns, a name twice or none at all.
    """
    if not path.is_file():
        raise DataError(f"No class list {path}. Write one class name a line, the first being id 0.")
    names = read_lines(path, "Write one class name a line, the first being id 0.")
    check_listed_names(names, str(path))
    return names


def check_listed_names(names: Sequence[str], path: str) -> None:
    """Refuse names that a list of classes cannot hold, or that look as if they came with more columns.

    Raises:
        DataError: naming what is wrong.
    """
    if names and all(map(_NUMBERED.match, names)):
        raise DataError(
            f"{path} begins its lines with numbers, such as {names[0]!r}: expected names alone, the first being id 0."
        )
    if len(names) > 2 and re.search(r"[\s,;]", names[0]) and all(map(_NUMBERED.match, names[1:])):
        raise DataError(
            f"{path} has columns, such as {names[1]!r} below {names[0]!r}: expected names alone, the first being id 0."
        )
    for name in names:
        if "\t" in name or any(part.strip().isdecimal() for part in re.split("[,;]", name)[1:]):
            raise DataError(f"{path} has columns, such as {name!r}: expected one name a line, the first being id 0.")
    check_class_names(names, path)


def check_class_names(names: Iterable[str], where: str) -> None:
    """Refuse names of classes of which some cannot be told apart.

    Raises:
        DataError: naming what is wrong.
    """
    names = list(names)
    if wrong := [name for name in names if not name.strip() or _BREAKS.search(name)]:
        raise DataError(f"{where} names a class {wrong[0]!r}: expected text that can be shown in one line.")
    if not 1 < len(names) < 256:
        raise DataError(
            f"{where} names {plural(len(names), 'class')}: expected 2 to 255, since masks hold the ids 0 to 254 and void, 255."
        )
    _refuse_twins(names, where, "Give each class a name of its own.")


def _refuse_twins(names: list[str], where: str, advice: str) -> None:
    if twins := repeated(names):
        more = f" and {len(twins) - 1} more" if len(twins) > 1 else ""
        raise DataError(f"{where} lists {twins[0]} twice{more}. {advice}")
