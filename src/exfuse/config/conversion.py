"""A composed config's plain containers made into typed descriptions; what does not fit is said in one line, by its key."""

import functools
import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from exfuse import limits
from exfuse.config import search_path
from exfuse.config.options import refusal
from exfuse.config.words import as_typed, expected, nearest_key
from exfuse.errors import CONTROL, ConfigError, first_line
from exfuse.store.checked import leaves
from exfuse.store.description import (
    decode_option,
)

_T = TypeVar("_T")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_CIRCLE = 20  # references after which they lead nowhere


def as_plain(config: DictConfig) -> tuple[dict[str, Any], Any]:
    """The config as plain containers, resolved; and as it is written, by which an error names the key that was set.

    Raises:
        ConfigError: if a value is missing or refers to none, or a number is not finite.
    """
    written = OmegaConf.to_container(config, resolve=False)
    for key, value in leaves(written, into_lists=True):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value}: expected a finite number.")
        if isinstance(value, str) and CONTROL.search(value):
            raise ConfigError(f"{key}={value}: expected text of this locale's encoding, without control characters.")
    try:
        content: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is not set: add {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise ConfigError(_unresolved(written) or f"{error.full_key}: {first_line(error)}.") from error
    return content, written


def _unresolved(written: Any) -> str:
    """Which value stands where another setting refers to a key below it; empty if none does."""
    for key, value in leaves(written, into_lists=True):
        for reference in _REFERENCE.findall(value) if isinstance(value, str) else ():
            if above := _value_above(written, reference.split(".")):
                return f"{above}: expected keys below it, such as {reference}, to which {key} refers."
    return ""


def _value_above(written: Any, way: Sequence[str], followed: int = 0) -> str:
    """``key=value`` of what stands where a key has others below it, references followed; empty if nothing does."""
    node = written
    for depth, name in enumerate(way):
        if isinstance(node, str) and (found := _REFERENCE.fullmatch(node)) and followed < _CIRCLE:
            return _value_above(written, [*found[1].split("."), *way[depth:]], followed + 1)
        if not isinstance(node, Mapping):
            return f"{'.'.join(way[:depth])}={as_typed(node)}"
        node = node.get(name)
    return ""


def converted(content: Any, kind: type[_T], written: Any) -> _T:
    """Containers as a description of this kind.

    Raises:
        ConfigError: naming the key that is unknown, missing, of another kind or out of range.
    """
    try:
        found = msgspec.convert(content, kind, dec_hook=decode_option)
    except msgspec.ValidationError as error:
        raise ConfigError(_why(error, content, kind, written)) from error
    if misfit := next(_misfits(found), None):
        raise ConfigError(refusal(*misfit, written))
    return found


def _misfits(part: Any, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Key, value and kind of what is in its range and still not what it should be, see `exfuse.limits.fits`."""
    for name, kind in hints(part.__class__).items():
        value, key = getattr(part, name), f"{above}{name}"
        if isinstance(value, msgspec.Struct):
            yield from _misfits(value, f"{key}.")
        elif not limits.fits(value, kind):
            yield key, value, kind


@functools.cache
def hints(kind: Hashable) -> dict[str, Any]:
    """The kinds of a struct's fields by name, with their ranges."""
    return get_type_hints(kind, include_extras=True)  # type: ignore[arg-type]


def _why(error: msgspec.ValidationError, content: Any, kind: Any, written: Any) -> str:
    """One line for what does not fit: the key, what stands there and what is expected."""
    message, _, way = str(error).partition(" - at `$")
    names = re.findall(r"\.(\w+)|\[(\w+|\.\.\.)\]", way)
    value, keys = content, list[str]()
    for name, index in names:
        if index:
            break  # of a list or mapping: the whole is shown
        kind, value = get_type_hints(_struct(kind), include_extras=True)[name], value[name]
        keys.append(name)
    key = ".".join(keys)
    if unknown := re.search(r"unknown field `(\w+)`", message):
        groups = [] if key else [f"+{group}" for group in search_path.groups() if "/" not in group]
        known = [*_struct(kind).__struct_fields__, *groups]
        return f"{f'{key}.' if key else ''}{unknown[1]}: nothing reads this key. {nearest_key(unknown[1], known, key)}"
    if missing := re.search(r"missing required field `(\w+)`", message):
        wanted = expected(get_type_hints(_struct(kind), include_extras=True)[missing[1]])
        return f"{f'{key}.' if key else ''}{missing[1]} is not set: expected {wanted}."
    return refusal(key, value, kind, written)


def _struct(kind: Any) -> Any:
    """The struct in an annotation such as ``Annotated[Recipe | None, ...]``."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for part in get_args(kind) if (found := _struct(part)) is not None), None)
