"""Where JSON is sealed, and becomes typed: what is altered or does not fit ends in one line with file, place and remedy."""

import functools
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from exfuse.errors import CONTROL, UserError
from exfuse.files import sha256, write_csv, write_json

Kind = TypeVar("Kind")
_SEAL = "checksum"
_ESCAPES = re.compile(r"\\[bf]|\\u00[0189]|\\ud|\x7f")  # how JSON writes what may be a control character or half of one


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with a checksum over the rest of it; control characters, which no reader takes, are replaced."""
    rest = {name: value for name, value in content.items() if name != _SEAL}
    text = json.dumps(rest, sort_keys=True)
    if _ESCAPES.search(text):
        rest = _readable(rest)
        text = json.dumps(rest, sort_keys=True)
    return rest | {_SEAL: hashlib.sha256(text.encode()).hexdigest()}


def _readable(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {_readable(name): _readable(value) for name, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [*map(_readable, node)]
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", node) if isinstance(node, str) else node


def write_sealed_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `read_json` reads, atomically."""
    write_json(path, sealed(content))


def read_json(path: Path, kind: type[Kind], what: str, remedy: str, schema: int | None = None) -> Kind:
    """Read a sealed JSON file as ``kind``.

    Args:
        path: of the file.
        kind: what it must hold, a Struct as a rule.
        what: the file is, such as "a study", for the message.
        remedy: a sentence that says what to do about a file that is none.
        schema: that the file must name under ``schema``; None if it names none.

    Raises:
        UserError: if the file is missing, cut short, altered, of another schema, or holds something else.
    """
    return typed(read_plain(path, what, remedy, *([] if schema is None else [schema])), kind, path, what, remedy)


def read_plain(path: Path, what: str, remedy: str, *schemas: int) -> dict[str, Any]:
    """What `read_json` reads, before it is typed, without its seal; of one of these schemas, where any is named.

    Raises:
        UserError: see `read_json`.
    """
    try:
        content = json.loads(path.read_bytes())  # which knows infinity too
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, got {type(content).__name__}")
    except FileNotFoundError as error:
        raise UserError(f"No {path}: expected {what}. {remedy}") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}. It is {what}: mend its permissions or disk."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not {what}: it is cut short or no JSON ({error}). {remedy}") from error
    if schemas and (found := content.get("schema")) not in schemas:
        known = " and ".join(map(str, schemas))
        raise UserError(f"{path} is not {what}: it has schema {found}, this version reads {known}. {remedy}")
    if content.pop(_SEAL, None) != sealed(content)[_SEAL]:
        raise UserError(
            f"{path} is not {what}: its checksum does not fit, it was altered or holds control characters. {remedy}"
        )
    return content


@functools.cache
def _learn(kind: Any) -> None:
    """What msgspec knows of a type it fills in at its first use, unguarded: of two threads at once one would crash."""
    with _LEARNING:
        msgspec.json.Decoder(kind)


_LEARNING = threading.Lock()


def typed(content: Any, kind: type[Kind], path: Path | str, what: str, remedy: str) -> Kind:
    """Plain data as ``kind``; see `read_json`.

    Raises:
        UserError: naming the first thing that does not fit.
    """
    _learn(kind)  # type: ignore[arg-type]
    try:
        return msgspec.convert(content, kind, str_keys=True)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).replace("`", "").partition(" - at ")
        if problem.startswith("Expected str matching regex"):
            name = "a name that any file system takes: letters, digits and blank . + - _, and none of . + - first"
            problem = f"expected {name if '(?!' in problem else 'no blank at either end'}"
        inside = place.replace("$.", "").replace("$", "")
        raise UserError(f"{path} is not {what}: {f'{inside}: ' if inside else ''}{problem}. {remedy}") from error


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed list of the files in its folder, with the hash of each.

    Attributes:
        folder: where its paths start; not written.
        files: SHA-256 by path.
    """

    INDEX: ClassVar[str]  # the index's own name
    folder: Path = Path()
    files: dict[str, str] = {}

    def paths(self) -> list[str]:
        """Every file that the index names, relative to the folder."""
        raise NotImplementedError

    def write(self) -> None:
        """Write it, atomically; it vouches for the files that are there."""
        files = {path: sha256(self.folder / path) for path in self.paths()}
        content = plain(msgspec.structs.replace(self, files=files))
        write_sealed_json(self.folder / self.INDEX, {key: value for key, value in content.items() if key != "folder"})


Listing = TypeVar("Listing", bound=Index)


def read_index(folder: Path, kind: type[Listing], what: str, remedy: str, schema: int) -> Listing:
    """Read the index of a folder and hold it against its files.

    Raises:
        UserError: see `read_json`; or if a file that it names is not in its folder or was altered.
    """
    path, inside = folder / kind.INDEX, folder.resolve()
    index = msgspec.structs.replace(read_json(path, kind, what, remedy, schema), folder=folder)
    for name in index.paths():
        file = (inside / name).resolve()
        if not file.is_relative_to(inside) or not file.is_file():
            raise UserError(f"{path} names {name!r}, which is no file in its folder. {remedy}")
        if sha256(file) != index.files.get(name):
            raise UserError(f"{file} is not the file that {path} describes: it was altered. {remedy}")
    return index


def write_rows(path: Path, kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]) -> None:
    """Write Structs of one kind as a CSV, a column a field, an empty cell for None."""
    write_csv(path, [kind.__struct_fields__, *map(msgspec.structs.astuple, rows)])


def plain(content: Any) -> Any:
    """Structs and what they hold as plain data, for `exfuse.files.write_json`; paths as text."""
    return msgspec.to_builtins(content, str_keys=True, enc_hook=str)


def with_texts(node: Any, change: Callable[[str], Any]) -> Any:
    """Plain data with every text in it changed, but for the names of mappings."""
    if isinstance(node, Mapping):
        return {name: with_texts(value, change) for name, value in node.items()}
    if isinstance(node, list):
        return [with_texts(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


def leaves(node: Any, path: str = "", into_lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings by its full key. Empty mappings are values, and lists unless theirs are asked for."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from leaves(value, f"{path}.{name}" if path else str(name), into_lists)
    elif into_lists and isinstance(node, list):
        for value in node:
            yield from leaves(value, path, into_lists)
    else:
        yield path, node


def at(node: Any, key: str) -> Any:
    """What stands at a key, such as ``backbone.output_stride``, of nested mappings and lists; None where nothing does."""
    for name in key.split("."):
        if isinstance(node, list) and name.isdigit():
            node = node[int(name)]
        else:
            node = node.get(name) if isinstance(node, Mapping) else None
    return node
