"""Typing errors in overrides: say what is wrong and which groups, options or keys there are."""

import difflib
import functools
import inspect
import re
from collections.abc import Iterable, Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from exfuse.config import search_path
from exfuse.config.read import describe
from exfuse.errors import ConfigError
from exfuse.files import CONFIG_DIR
from exfuse.store.description import RunDescription


def explain(error: Exception, config_name: str, typed: Iterable[str]) -> str:
    """Hydra's message for a config that does not compose, with the valid choices where Hydra does not name them."""
    message = str(error).partition("\nConfig search path:")[0].strip()
    choices = _valid_choices(config_name, typed)
    if choices is None:
        return message
    advice = re.compile(r"\nTo append to your (config|default list) use .*")  # would only hide the typing error
    return f"{advice.sub('', message)}\n{choices}"


def check_overrides(typed: Iterable[str], config: DictConfig, config_name: str) -> None:
    """Refuse what Hydra lets pass: added keys that nothing reads, and words where a number belongs.

    Args:
        typed: overrides of one job.
        config: what they were composed to.
        config_name: the config that they change.

    Raises:
        ConfigError: naming the keys that can be set there, or the value that stands there without the override.
    """
    overrides = OverridesParser.create().parse_overrides(list(typed))
    _check_additions(overrides, config)
    _check_numbers(overrides, config, config_name)


def _check_additions(overrides: list[Override], config: DictConfig) -> None:
    """``+group=option`` and arguments of a ``_target_`` may be added, nothing else."""
    for override in overrides:
        if not (override.is_add() or override.is_force_add()) or _is_group(override.key_or_group):
            continue
        parent, _, leaf = override.key_or_group.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        accepted = _arguments(node) if isinstance(node, DictConfig) else None
        if accepted is None:
            known = [str(key) for key in node if key != leaf] if isinstance(node, DictConfig) else []
            if not parent:
                known += [
                    f"+{path.name}" for path in CONFIG_DIR.iterdir() if path.is_dir() and path.name not in {*known, "hydra"}
                ]
            if override.is_add():
                raise ConfigError(f"{override.input_line}: nothing reads this key. {_suggest(leaf, known, parent)}")
        elif leaf not in accepted:
            raise ConfigError(
                f"{override.input_line}: {node['_target_']} has no such argument. {_suggest(leaf, accepted, parent)}"
            )


def _check_numbers(overrides: list[Override], config: DictConfig, config_name: str) -> None:
    # trainer.* is Lightning's to judge: devices may well be a word; and places are no numbers
    others = ("trainer.", "hydra", "paths.", "sweep.output")
    changed = [name for name in (override.key_or_group for override in overrides) if not name.startswith(others)]
    changed = [name for name in changed if not _is_group(name)]
    words = [key for key in changed if isinstance(OmegaConf.select(config, key), str)]
    base = _compose(config_name, overrides) if words else None
    for key in words:
        usual = OmegaConf.select(base, key) if base is not None else None
        if isinstance(usual, (int, float)):
            kind = "true or false" if isinstance(usual, bool) else f"a number, such as {usual}"
            raise ConfigError(f"{key}={OmegaConf.select(config, key)}: expected {kind}.")


def _arguments(node: DictConfig) -> list[str] | None:
    """Names of the arguments of a node's ``_target_``; None for a node without one."""
    if "_target_" not in node:
        return None
    return [name for name in inspect.signature(get_object(node["_target_"])).parameters if name not in ("self", "args")]


def _valid_choices(config_name: str, typed: Iterable[str]) -> str | None:
    """For the first override that names nothing, the groups or keys that there are."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(typed))
    except HydraException:
        return None
    base = _compose(config_name, overrides)
    if base is None:
        return None
    for override in overrides:
        key = override.key_or_group
        if key.startswith("hydra") or _is_group(key):
            continue
        if "/" in key:
            groups = [str(path.relative_to(CONFIG_DIR)) for path in CONFIG_DIR.rglob("*") if path.is_dir()]
            return _suggest(key, sorted(groups), "groups")
        parent, leaf = _deepest(base, key)
        node = OmegaConf.select(base, parent) if parent else base
        if leaf not in node:
            return _suggest(leaf, [str(name) for name in node], parent)
    return None


def _deepest(base: DictConfig, key: str) -> tuple[str, str]:
    """Split ``a.b.c`` into the longest existing mapping and the first name below it."""
    names = key.split(".")
    depth = 0
    while depth < len(names) - 1 and isinstance(OmegaConf.select(base, ".".join(names[: depth + 1])), DictConfig):
        depth += 1
    return ".".join(names[:depth]), names[depth]


def _suggest(wrong: str, valid: list[str], where: str) -> str:
    close = difflib.get_close_matches(wrong, valid, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    what = "Groups" if where == "groups" else f"Keys of {where}" if where else "Top-level keys"
    return f"{hint}{what}: {', '.join(valid)}."


def _is_group(key: str) -> bool:
    return (CONFIG_DIR / key.partition("@")[0]).is_dir()


def compose_config(config_name: str, overrides: list[str]) -> DictConfig:
    """The config that these overrides compose to.

    Raises:
        HydraException: if they do not compose.
    """
    return compose_choices(config_name, overrides)[0]


def compose_choices(config_name: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """The config that these overrides compose to, and the option that was chosen in each config group, as Hydra lists them.

    Raises:
        HydraException: if they do not compose.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose(config_name, [*search_path.overrides(), *overrides], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return config, choices


def describe_run(overrides: Sequence[str]) -> RunDescription:
    """What ``exfuse train`` with these overrides would train.

    Raises:
        HydraException: if they do not compose.
        ConfigError: see `exfuse.config.read.describe`.
    """
    return describe(*compose_choices("train", overrides))


def _compose(config_name: str, overrides: list[Override]) -> DictConfig | None:
    """The config under the group choices alone, or with none of them where they do not compose."""
    groups = [override.input_line or "" for override in overrides if _is_group(override.key_or_group)]
    return _composed_once(config_name, tuple(groups))


@functools.lru_cache(maxsize=64)  # the jobs of a sweep choose the same groups again and again
def _composed_once(config_name: str, groups: tuple[str, ...]) -> DictConfig | None:
    for attempt in (groups, ()):
        try:
            return compose_config(config_name, list(attempt))
        except HydraException:
            continue
    return None
