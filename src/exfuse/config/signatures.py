"""The arguments of a function or class, read from its source: importing torch to know them would take seconds."""

import ast
import collections.abc
import functools
import importlib.util
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from exfuse import limits
from exfuse.errors import ConfigError, first_line
from exfuse.store.description import Option


@dataclass
class Argument:
    """One argument.

    Attributes:
        optional: whether it has a default.
    """

    optional: bool
    _kind: Callable[[], Any]

    @functools.cached_property
    def kind(self) -> Any:
        """The type that it is annotated with, `Any` where that is none of plain values.

        It is worked out once somebody asks: a class has many arguments that no config sets, whose types stand in other files.
        """
        return self._kind()


class Signature(NamedTuple):
    """Arguments by name, and whether any other is taken too (``**kwargs``)."""

    arguments: Mapping[str, Argument]
    open: bool


_BARE = ("Module", "ABC", "object", "Generic", "Protocol")  # bases that take nothing
_Definition = ast.FunctionDef | ast.ClassDef


class _Names(dict[str, Any]):
    """What an annotation in a file may speak of: plain values, and names that the file gives to such; all else is `Any`."""

    def __init__(self, path: Path) -> None:
        super().__init__(_KNOWN)
        self.path = path

    def __missing__(self, name: str) -> Any:
        return _kind(*_alias(self.path, name))


_KNOWN: dict[str, Any] = (
    {kind.__name__: kind for kind in (bool, int, float, str, list, dict, tuple)}
    | {name: getattr(typing, name) for name in ("Annotated", "Any", "Dict", "List", "Literal", "Optional", "Tuple", "Union")}
    | {
        "Sequence": collections.abc.Sequence,
        "Mapping": collections.abc.Mapping,
        "Meta": msgspec.Meta,
        "Path": limits.Text,
        "None": None,
        "Option": Option,
    }
)


@functools.cache
def signature(target: str) -> Signature:
    """The signature of what an import path such as ``torch.optim.SGD`` names.

    Raises:
        ConfigError: if there is no such thing.
    """
    arguments, is_open = _as_written(target)
    bounded = limits.OF_OTHERS.get(target, {})
    given = {name: Argument(arguments[name].optional, partial(bounded.__getitem__, name)) for name in bounded}
    return Signature({**arguments, **given}, is_open)


def _as_written(target: str) -> Signature:
    *parents, name = target.split(".")
    for depth in range(len(parents), 0, -1):
        if path := source_of(".".join(parents[:depth])):
            if depth == len(parents) and (found := _find(path, name)) and (written := _signature(*found)) is not None:
                return written
            break
    try:  # what is not written down in a source file
        found_live = inspect.signature(pkgutil.resolve_name(target)).parameters.values()
    except (Exception, SystemExit) as error:
        why = "expected the import path of a function or class."
        if isinstance(error, ModuleNotFoundError):
            why = f"there is no module {error.name}. Is the folder that holds it on PYTHONPATH?"
        elif not isinstance(error, (ImportError, AttributeError, ValueError, TypeError)):
            why = f"its module raised {type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"{target} cannot be found: {why}") from error
    named = {argument.name: Argument(argument.default is not argument.empty, lambda: Any) for argument in found_live}
    return Signature(named, any(argument.kind is argument.VAR_KEYWORD for argument in found_live))


def _signature(path: Path, definition: _Definition) -> Signature | None:
    """What a definition takes; None where a class takes what one does that this file does not show."""
    if isinstance(definition, ast.FunctionDef):
        return _of_function(path, definition, skip=0)
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _of_function(path, statement, skip=1)
    if _holds_fields(definition):
        fields = [statement for statement in definition.body if isinstance(statement, ast.AnnAssign)]
        named = [(field.target.id, field) for field in fields if isinstance(field.target, ast.Name)]
        found = {name: Argument(field.value is not None, partial(_kind, path, field.annotation)) for name, field in named}
        return Signature(found, open=False)
    for base in definition.bases:
        name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
        if name in _BARE:
            continue
        origin = _find(path, name) if isinstance(base, ast.Name) else None
        return _signature(*origin) if origin else None
    return Signature({}, open=False)


def _holds_fields(definition: ast.ClassDef) -> bool:
    """Whether what is annotated in a class's body are its arguments: of a NamedTuple, a Struct or what a decorator makes."""
    annotated = any(isinstance(statement, ast.AnnAssign) for statement in definition.body)
    told = any(word in ast.dump(one) for one in definition.bases for word in ("NamedTuple", "Struct"))
    return annotated and (told or bool(definition.decorator_list))


def _of_function(path: Path, function: ast.FunctionDef, skip: int) -> Signature:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    optional = [False] * (len(positional) - len(given.defaults)) + [True] * len(given.defaults)
    pairs = [*zip(positional, optional, strict=True)][skip:]
    pairs += [(argument, default is not None) for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    found = {argument.arg: Argument(default, partial(_kind, path, argument.annotation)) for argument, default in pairs}
    return Signature(found, open=given.kwarg is not None)


def _kind(path: Path, annotation: ast.expr | None) -> Any:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if annotation is None:
        return Any
    try:
        return eval(compile(ast.Expression(annotation), "annotation", "eval"), {"__builtins__": {}}, _Names(path))
    except Exception:  # a form that no plain value has
        return Any


def _alias(path: Path, name: str) -> tuple[Path, ast.expr | None]:
    """The expression that a module gives a name to, here or where it is imported from, and the file where it stands."""
    for statement, own in _bindings(path).get(name, ()):
        if isinstance(statement, ast.Assign):
            return path, statement.value
        if isinstance(statement, ast.ImportFrom) and (origin := _imported(path, statement)):
            return _alias(origin, own)
    return path, None


def _find(path: Path, name: str) -> tuple[Path, _Definition] | None:
    """The definition behind a name of a module, through its imports, and the file where it stands."""
    for statement, own in _bindings(path).get(name, ()):
        if isinstance(statement, _Definition):
            return path, statement
        if isinstance(statement, ast.ImportFrom) and (origin := _imported(path, statement)):
            return _find(origin, own)
    return None


@functools.cache
def _bindings(path: Path) -> dict[str, list[tuple[ast.stmt, str]]]:
    """By name of a module the statements that bind it, and what they call that which it stands for."""
    found: dict[str, list[tuple[ast.stmt, str]]] = {}
    try:
        parsed = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ConfigError(f"{path}{place} is no Python: {getattr(error, 'msg', error)}. Mend it.") from error
    for statement in _statements(parsed.body):
        bound: list[tuple[str, str]] = []
        if isinstance(statement, ast.Assign):
            bound = [(to.id, to.id) for to in statement.targets if isinstance(to, ast.Name)]
        elif isinstance(statement, ast.ImportFrom):
            bound = [(imported.asname or imported.name, imported.name) for imported in statement.names]
        elif isinstance(statement, _Definition):
            bound = [(statement.name, statement.name)]
        for name, own in bound:
            found.setdefault(name, []).append((statement, own))
    return found


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        for nested in ("body", "orelse", "handlers"):
            if isinstance(statement, (ast.If, ast.Try)):
                yield from _statements([part for part in getattr(statement, nested, []) if isinstance(part, ast.stmt)])


def _imported(path: Path, statement: ast.ImportFrom) -> Path | None:
    if statement.level == 0:
        return source_of(statement.module or "")
    folder = path.parent
    for _ in range(statement.level - 1):
        folder = folder.parent
    return _below(folder, (statement.module or "").split("."))


def source_of(module: str) -> Path | None:
    """The source file of a module, which is not imported."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # of a module that is there without a file
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin) if spec.has_location and spec.origin and not rest else None  # not of what is built in
    return next(filter(None, (_below(Path(place), rest) for place in spec.submodule_search_locations)), None)


def _below(folder: Path, names: list[str]) -> Path | None:
    path = folder.joinpath(*names)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)
