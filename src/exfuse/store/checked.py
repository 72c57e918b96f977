"""Where JSON becomes typed: what does not fit ends in one line that names the file, the place in it and a remedy."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from exfuse.errors import UserError

Kind = TypeVar("Kind")


def read_json(path: Path, kind: type[Kind], what: str, remedy: str, schema: int | None = None) -> Kind:
    """Read a JSON file as ``kind``.

    Args:
        path: of the file.
        kind: what it must hold, a Struct as a rule.
        what: the file is, such as "a study", for the message.
        remedy: a sentence that says what to do about a file that is none.
        schema: that the file must name under ``schema``; None if it names none.

    Raises:
        UserError: if the file is missing, cut short, of another schema, or holds something else.
    """
    return typed(read_plain(path, what, remedy, schema), kind, path, what, remedy)


def read_plain(path: Path, what: str, remedy: str, schema: int | None = None) -> dict[str, Any]:
    """What `read_json` reads, before it is typed.

    Raises:
        UserError: see `read_json`.
    """
    try:
        content = json.loads(path.read_bytes())  # which knows infinity too
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, got {type(content).__name__}")
    except FileNotFoundError as error:
        raise UserError(f"No {path}: expected {what}. {remedy}") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not {what}: it is cut short or no JSON ({error}). {remedy}") from error
    if schema is not None and content.get("schema") != schema:
        raise UserError(f"{path} has schema {content.get('schema')}, this version reads {schema}. {remedy}")
    return content


def typed(content: Any, kind: type[Kind], path: Path | str, what: str, remedy: str) -> Kind:
    """Plain data as ``kind``; see `read_json`.

    Raises:
        UserError: naming the first thing that does not fit.
    """
    try:
        return msgspec.convert(content, kind, str_keys=True)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).replace("`", "").partition(" - at ")
        inside = place.replace("$.", "").replace("$", "")
        raise UserError(f"{path} is not {what}: {f'{inside}: ' if inside else ''}{problem}. {remedy}") from error


def write_rows(path: Path, kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]) -> None:
    """Write Structs of one kind as a CSV, a column a field, an empty cell for None."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, kind.__struct_fields__)
        writer.writeheader()
        writer.writerows(map(msgspec.structs.asdict, rows))


def plain(content: Any) -> Any:
    """Structs and what they hold as plain data, for `exfuse.files.write_json`; paths as text."""
    return msgspec.to_builtins(content, str_keys=True, enc_hook=str)
