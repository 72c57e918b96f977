"""The code behind the options of config groups: found by group and name in the search path when it is needed, never kept."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hydra.utils import get_object

from exfuse.config import search_path
from exfuse.errors import ConfigError
from exfuse.store.description import Option

_TARGET, _PARTIAL = "_target_", "_partial_"
_REFERENCE = re.compile(r"\$\{(\w+)\.(\w+)\}")


def build(group: str, option: Option, part: str | None = None, beside: Mapping[str, Callable[[str], Any]] | None = None) -> Any:
    """What an option's file names in ``_target_``, called with the option's settings.

    Args:
        group: the config group, such as ``technique/dap``.
        option: one of its options.
        part: only what stands under this name in the option, such as a data set's ``train``.
        beside: by group, what reads a part of another group's option that this one's settings refer to, such as
            ``${data.train}``; parts of its own it finds itself.

    Returns:
        What the call returns; with ``_partial_: true`` in the file a function that still takes arguments.

    Raises:
        ConfigError: if the search path holds no such option, or its code cannot be loaded or refuses its arguments.
    """
    known = {**(beside or {}), group: lambda name: build(group, option, name, beside)}

    def assemble(settings: Any, code: Any) -> Any:
        if isinstance(settings, str) and (found := _REFERENCE.fullmatch(settings)):
            return known[found[1]](found[2])
        if isinstance(settings, list):
            parts = dict(enumerate(code)) if isinstance(code, list) else {}
            return [assemble(setting, parts.get(number)) for number, setting in enumerate(settings)]
        if not isinstance(settings, dict):
            return settings
        code = code if isinstance(code, dict) else {}
        made = {name: assemble(value, code.get(name)) for name, value in settings.items()}
        if _TARGET not in code:
            return made
        target = get_object(code[_TARGET])
        return partial(target, **made) if code.get(_PARTIAL) else target(**made)

    code: Any = code_of(group, option.name)
    settings: Any = option.settings
    try:
        return assemble(settings, code) if part is None else assemble(settings[part], code.get(part))
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError(f"{group}={option.name} cannot be built: {error}.") from error


def code_of(group: str, name: str) -> dict[str, Any]:
    """The ``_target_`` and ``_partial_`` of an option and, by their names, of its parts.

    Raises:
        ConfigError: if the search path holds no such option.
    """
    return _only_code(search_path.read_whole(group, name)) or {}


def _only_code(node: Any) -> Any:
    """The same nesting with all but `_TARGET` and `_PARTIAL` left out; None where there is none."""
    if isinstance(node, list):
        parts = [_only_code(part) for part in node]
        return parts if any(parts) else None
    if not isinstance(node, dict):
        return None
    own = {name: node[name] for name in (_TARGET, _PARTIAL) if name in node}
    return own | {name: part for name, value in node.items() if (part := _only_code(value))} or None
