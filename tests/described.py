"""Descriptions for tests: with one value changed, or as a command's own arguments."""

from typing import Any, TypeVar

from msgspec.structs import replace

from exfuse.cli.verbs import VERBS
from exfuse.config.overrides import compose_config
from exfuse.config.read import read_arguments
from exfuse.store.description import Normalisation, Option

T = TypeVar("T")
HALF = Normalisation([0.5] * 3, [0.25] * 3)


def changed(value: T, path: str, new: Any) -> T:
    """A description with another value at a path such as ``backbone.missing`` or ``data.root``."""
    name, _, rest = path.partition(".")
    if isinstance(value, dict):
        return {**value, name: changed(value[name], rest, new) if rest else new}  # type: ignore[return-value]
    if isinstance(value, Option):
        return Option(value.name, changed(value.settings, path, new))  # type: ignore[return-value]
    return replace(value, **{name: changed(getattr(value, name), rest, new) if rest else new})


def arguments_of(config_name: str, *overrides: str) -> dict[str, Any]:
    """What a command other than training reads from its config and these overrides for the function that does its work."""
    config, choices = compose_config(config_name, overrides)
    return read_arguments(config, next(verb.target for verb in VERBS if verb.config == config_name), choices)
