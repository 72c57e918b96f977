"""What the messages about configs say: kinds of values in words, values as they are typed, the nearest valid name."""

import difflib
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

from exfuse.errors import nearest
from exfuse.limits import MOST
from exfuse.store.description import Option

_PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
    dict: "keys with values",
}


# What Hydra's grammar, which knows ASCII alone, reads as text without quotes.
_BARE = re.compile(r"(?!null$|true$|false$|inf$|nan$|\.\d)[A-Z/.][\w/.:-]*", re.IGNORECASE | re.ASCII)


def shown(value: Any, leaf: Callable[[Any], str] = str) -> str:
    """A value as it is typed on the command line; ``leaf`` says text and numbers."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{shown(item, leaf)}' for name, item in value.items())}}}"
    return f"[{','.join(shown(item, leaf) for item in value)}]" if isinstance(value, (list, tuple)) else leaf(value)


def as_typed(value: Any) -> str:
    """A value in Hydra's override grammar."""
    return shown(value, _quoted)


def _quoted(value: Any) -> str:
    if not isinstance(value, str) or _BARE.fullmatch(value):
        return str(value)
    escaped = re.sub(r'(\\*)("|\Z)', lambda found: 2 * found[1] + (found[2] and r"\""), value)  # others stand for themselves
    return f'"{escaped}"'


def expected(kind: Any) -> str:
    """What a value of this type is, in words."""
    *others, last = sorted(dict.fromkeys(_alternatives(kind)), key=lambda word: word.startswith("a list"))  # the longest
    return f"{', '.join(others)} or {last}" if others else last


def nearest_key(wrong: str, valid: Iterable[str], parent: str) -> str:
    """See `exfuse.errors.nearest`; of the keys of ``parent``, or of the top level where that is empty."""
    return nearest(wrong, valid, f"Keys of {parent}" if parent else "Top-level keys")


def nearest_word(value: Any, kind: Any) -> str:
    """The word of a type that is closest to what was typed; empty if none is close."""
    return next(iter(difflib.get_close_matches(str(value), _alternatives(kind), n=1)), "")


def key_of(kind: Any) -> str:
    """The first key of a struct, and what it takes, as an example: ``.seeds=... (a whole number)``; empty for other types."""
    if isinstance(kind, type) and issubclass(kind, Struct) and not issubclass(kind, Option):
        name, first = next(iter(get_type_hints(kind, include_extras=True).items()))
        return f".{name}=... ({expected(first)})"
    return next((found for part in get_args(kind) if (found := key_of(part))), "")


def _alternatives(kind: Any) -> list[str]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return [shown(part) for part in parts]
    if origin in (Union, types.UnionType):
        return [word for part in parts for word in _alternatives(part)]
    if hasattr(kind, "__metadata__"):
        words = _alternatives(kind.__origin__)
        metas = [meta for meta in kind.__metadata__ if isinstance(meta, Meta)]
        if title := next((meta.title for meta in metas if meta.title), None):
            return [title]
        bounds = [bound for meta in metas for bound in _bounds(meta)]
        return [f"{words[0]} {' and '.join(bounds)}" if bounds else words[0], *words[1:]]
    if isinstance(origin or kind, type):
        base: type = origin or kind
        if base is bool:
            return ["true", "false"]
        if base in _PLAIN:
            return [_PLAIN[base]]
        if issubclass(base, Mapping) and len(parts) == 2:
            return [f"{_PLAIN[dict]}, each {expected(parts[1])}"]
        if issubclass(base, (Mapping, Struct, Option)):
            return [_PLAIN[dict]]
        if issubclass(base, Sequence):
            return [f"a list, each {expected(parts[0])}" if parts else "a list"]
    return ["another value"]


def _bounds(meta: Meta) -> list[str]:
    texts = {"ge": "of at least {}", "gt": "above {}", "le": "of at most {}", "lt": "below {}"}
    texts |= {"min_length": "of length {}" if meta.min_length == meta.max_length else "of length {} or more"}
    return [
        text.format(f"{bound:g}") for name, text in texts.items() if (bound := getattr(meta, name)) is not None and bound < MOST
    ]
