"""The code behind the options of config groups: found by group and name in the search path when it is needed, never kept."""

import logging
import re
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from hydra.utils import get_object

from exfuse import limits
from exfuse.config import search_path
from exfuse.config.signatures import signature
from exfuse.config.words import expected, key_of, nearest_key, nearest_word, shown
from exfuse.errors import ConfigError, UserError, first_line, nearest
from exfuse.store.checked import at
from exfuse.store.description import Option

_DECIDED = {  # arguments that whoever calls the code gives it, whatever is set
    ("optimizer", "params"): "the model",
    ("optimizer", "lr"): "recipe.lr",
    ("optimizer", "weight_decay"): "recipe.weight_decay",
    ("schedule", "optimizer"): "recipe.optimizer",
    ("schedule", "steps"): "recipe.epochs",
}
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # what `get_object` raises says it once
_TARGET, _PARTIAL = "_target_", "_partial_"
_PLAIN = (ImportError, TypeError, ValueError, RecursionError)  # errors whose words say enough
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
    check(group, option)

    def assemble(settings: Any, code: Any) -> Any:
        if isinstance(settings, str) and (found := _REFERENCE.fullmatch(settings)) and found[1] in known:
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
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody else's code does
        *_, innermost = traceback.walk_tb(error.__traceback__)
        waits = "missing" in str(error) and "argument" in str(error) and isinstance(code, dict) and not code.get(_PARTIAL)
        waits = waits and innermost[0].f_code.co_filename == __file__  # it is this call that lacks some
        hint = " Does its file lack _partial_: true, by which it waits for them?" if waits else ""
        cause = error.__cause__ if isinstance(error, ImportError) else None  # Hydra's own words ask for an installed module
        told = cause or error
        said = str(error) if told is error and isinstance(error, _PLAIN) else f"{type(told).__name__}: {first_line(told)}"
        if isinstance(cause, SyntaxError):
            said = f"{cause.filename}, line {cause.lineno} is no Python: {cause.msg}"
        raise ConfigError(f"{group}={option.name} cannot be built: {said}.{hint}") from error


def check(group: str, option: Option) -> None:
    """Refuse settings that an option's code does not take, wherever they come from: a config, a record or a checkpoint.

    Raises:
        ConfigError: naming the key, or the option if the search path holds none of this name.
    """
    key = group.replace("/", ".")
    checked(key, option.settings, search_path.read_whole(group, option.name), (key, group, option.name))


def checked(key: str, node: Any, file: Any, option: tuple[str, str, str], written: Any = None) -> Any:
    """A part of an option's settings, each of the kind that its code takes; a whole number may stand for a fraction.

    Args:
        key: of the part, for messages.
        node: the part.
        file: the part as the option's file has it, which alone names its code.
        option: the place of the option in the config, its group and its name.
        written: the config as it was written, of which an interpolation may be the part; None if there is none.

    Raises:
        ConfigError: naming a key that nothing reads, or whose value is of another kind.
    """
    is_reference = isinstance(node, str) and _REFERENCE.fullmatch(node)
    if not isinstance(node, dict) and not is_reference and isinstance(file, dict) and _TARGET in file:
        raise ConfigError(f"{key}={shown(node)}: expected keys with values, as of {file[_TARGET]}.")
    if isinstance(node, list):
        parts = dict(enumerate(file)) if isinstance(file, list) else {}
        return [checked(f"{key}.{number}", part, parts.get(number), option, written) for number, part in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if _TARGET in node and isinstance(reference := at(written, key), str):
        return reference  # a part of another option, or of this one, that is checked where it stands
    file = file if isinstance(file, dict) else {}
    place, group, chosen = option
    target = file.get(_TARGET)
    if _TARGET in file and not (isinstance(target, str) and all(part.isidentifier() for part in target.split("."))):
        raise ConfigError(f"{group}={chosen}: its file's _target_, {shown(target)}, is no import path of a function or class.")
    if (wanted := node.get(_TARGET, None if written is not None else target)) != target:
        others = nearest(str(wanted).rpartition(".")[2], search_path.options(group), f"Options of {group}")
        raise ConfigError(f"{key}._target_={wanted}: {group}={chosen} is {target}, as its file says; choose another. {others}")
    given = {name: checked(f"{key}.{name}", value, file.get(name), option, written) for name, value in node.items()}
    given = {name: value for name, value in given.items() if name not in (_TARGET, _PARTIAL)}
    if target is None:
        for name in given if key == place else ():
            if name not in file:
                raise ConfigError(f"{key}.{name}: nothing reads this key. {nearest_key(name, file, key)}")
        for name, usual in file.items():
            if isinstance(usual, (bool, int, float)) and given.get(name) is not None:
                given[name] = fitting(f"{key}.{name}", given[name], type(usual), written)
        return given
    try:
        arguments, is_open = signature(target)
    except ConfigError as error:
        raise ConfigError(f"{group}={chosen}: {error}") from error
    needed = (name for name, argument in arguments.items() if not argument.optional and name in file)
    if written is not None and (lost := next((name for name in needed if name not in node), None)):
        raise ConfigError(f"{key}.{lost} is left out, and {target} needs it. {group}={chosen} has {lost}={shown(file[lost])}.")
    settable = [name for name, argument in arguments.items() if argument.optional or name in (file if key == place else given)]
    for name, value in given.items():
        if key == place and (decider := _DECIDED.get((group, name))):
            raise ConfigError(f"{key}.{name}: {decider} decides this.")
        if name in settable:
            is_reference = isinstance(value, str) and _REFERENCE.fullmatch(value)
            if not is_reference and (value is not None or file.get(name, ...) is not None):  # a file's own null is filled later
                given[name] = fitting(f"{key}.{name}", value, arguments[name].kind, written)
        elif not is_open:
            of_file = name in file  # which is wrong then, and names no owner
            where = f", though the file of {group}={chosen} has it" if of_file else ""
            hint = nearest_key(name, arguments, key) if of_file else whose(group, name) or nearest_key(name, settable, key)
            raise ConfigError(f"{key}.{name}: nothing reads this key{where}. {hint}")
    return given


def whose(group: str, setting: str) -> str:
    """Which options of a group have a setting, as a sentence; empty if none has."""
    owners = []
    for name in search_path.options(group):
        with suppress(ConfigError):  # of a file that is not asked for
            owners += [name] if setting in search_path.read_whole(group, name) else []
    return f"{group}={' or '.join(owners)} {'have' if len(owners) > 1 else 'has'} {setting}." if owners else ""


def code_of(group: str, name: str) -> dict[str, Any]:
    """The ``_target_`` and ``_partial_`` of an option and, by their names, of its parts.

    Raises:
        ConfigError: if the search path holds no such option.
    """
    found: dict[str, Any] = _only_code(search_path.read_whole(group, name)) or {}
    if not isinstance(waits := found.get(_PARTIAL, False), bool):
        raise ConfigError(f"{group}={name}: _partial_: {waits} in its file, expected true or false.")
    return found


def _only_code(node: Any) -> Any:
    """The same nesting with all but `_TARGET` and `_PARTIAL` left out; None where there is none."""
    if isinstance(node, list):
        parts = [_only_code(part) for part in node]
        return parts if any(parts) else None
    if not isinstance(node, dict):
        return None
    own = {name: node[name] for name in (_TARGET, _PARTIAL) if name in node}
    return own | {name: part for name, value in node.items() if (part := _only_code(value))} or None


def fitting(key: str, value: Any, kind: Any, written: Any) -> Any:
    """``value`` if it is of this kind; a whole number where fractions may stand becomes one of these.

    Raises:
        ConfigError: if it is not.
    """
    try:
        converted = msgspec.convert(value, kind)
        if not limits.fits(value, kind):
            raise msgspec.ValidationError
    except msgspec.ValidationError as error:
        raise ConfigError(refusal(key, value, kind, written)) from error
    except TypeError:  # a union that msgspec cannot tell apart
        return value
    return _widened(value, converted)


def _widened(value: Any, converted: Any) -> Any:
    """``value`` with fractions where whole numbers stand for them; a key of a run takes 1 for another number than 1.0."""
    if isinstance(value, dict) and isinstance(converted, dict):
        return {name: _widened(one, converted.get(name, one)) for name, one in value.items()}
    if isinstance(value, list) and isinstance(converted, (list, tuple)):
        return [_widened(one, other) for one, other in zip(value, converted, strict=True)]
    return converted if isinstance(converted, float) else value


def refusal(key: str, value: Any, kind: Any, written: Any) -> str:
    node = at(written, key)
    if isinstance(node, str) and (source := re.fullmatch(r"\$\{([\w.]+)\}", node)):
        key = source[1]  # what was set is what it refers to
    if isinstance(value, (int, float)) and value > limits.MOST:
        return f"{key}={value}: expected {expected(kind)}; no number but a seed may be larger than {limits.MOST:,}."
    close = nearest_word(value, kind)
    hint = f" Did you mean {close}?" if close else f" For example {key}{own}." if (own := key_of(kind)) else ""
    if "text" in expected(kind) and any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
        hint = " YAML reads no, yes, on and off as false and true: quote them."
    return f"{key}={shown(value)}: expected {expected(kind)}.{hint}"
