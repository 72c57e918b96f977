"""Composing configs from overrides, and what to say where they do not compose."""

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict

from exfuse.config import search_path
from exfuse.config.options import whose
from exfuse.config.read import Choices, describe, describe_pretraining
from exfuse.config.words import nearest_key
from exfuse.errors import ConfigError, nearest
from exfuse.files import CONFIG_DIR
from exfuse.store import variants
from exfuse.store.description import PretrainingDescription, RunDescription

_NAME = re.compile(r"(?!(null|nan|inf|true|false)$)[A-Za-z_][\w.-]*", re.IGNORECASE)  # of an option

_SEVERAL = re.compile(r"Ambiguous value for argument '(.*)'\n")  # Hydra's


def compose_config(config_name: str, overrides: Sequence[str]) -> tuple[DictConfig, Choices]:
    """The config that these overrides compose to, and the option that was chosen in each config group, as Hydra lists them.

    Raises:
        HydraException: if they do not compose.
    """
    return without_hydra(compose_hydra(config_name, overrides))


def without_hydra(config: DictConfig) -> tuple[DictConfig, Choices]:
    """The config alone, in place, and the options that Hydra's own node lists."""
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return config, choices


def compose_hydra(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """See `compose_config`; with Hydra's own node."""
    check_groups(overrides)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(config_name, [*search_path.overrides(), *overrides], return_hydra_config=True)


def parser() -> OverridesParser:
    """Hydra's, which knows the options of every group: a ``glob(*)`` can then name them."""
    path = create_config_search_path(str(CONFIG_DIR))
    for folder in search_path.added_folders():
        path.append("added", f"file://{folder}")
    return OverridesParser.create(config_loader=ConfigLoaderImpl(path))


def check_groups(typed: Iterable[str]) -> None:
    """Refuse what stands where the name of an option should, a number, null, a list or a path; and no option at all.

    Raises:
        ConfigError: naming the group and its options.
    """
    named = [(word, *word.lstrip("+~").partition("=")[::2]) for word in typed]
    for _, group, _ in named:
        slot = group.removeprefix("technique/")
        if slot != group and slot not in variants.names() and search_path.is_group(group):
            raise ConfigError(
                f"{group} has options and no entry among the techniques: add slot/{slot}.yaml, see docs/extend.md."
            )
    for word, group, _ in named:
        if word.startswith("~") and search_path.is_group(group):
            known = ", ".join(search_path.options(group.partition("@")[0]))
            raise ConfigError(f"{word}: no group can be left out, choose one of its options: {group}={{{known}}}.")
    for word in [word for word, key, value in named if not _NAME.fullmatch(value) and value and search_path.is_group(key)]:
        try:
            (override,) = OverridesParser.create().parse_overrides([word])
        except HydraException:
            continue  # which Hydra says itself
        if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
            continue  # names by itself only options that there are
        values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
        if not all(isinstance(value, str) and not {"", ".", ".."} & {*value.split("/")} for value in values):
            group, _, value = word.lstrip("+~").partition("=")
            known = nearest(value, search_path.options(group.partition("@")[0]), f"Options of {group}")
            raise ConfigError(f"{group}={value}: expected the name of one option. {known}")
    for _, group, names in named:
        for name in names.split(","):
            search_path.check_header(group, name)


def describe_run(overrides: Sequence[str]) -> RunDescription:
    """What ``exfuse train`` with these overrides would train.

    Raises:
        HydraException: if they do not compose.
        ConfigError: see `exfuse.config.read.describe`.
    """
    return describe(*compose_config("train", overrides))


def describe_backbone(overrides: Sequence[str]) -> PretrainingDescription:
    """What ``exfuse pretrain`` with these overrides would make; see `describe_run`."""
    return describe_pretraining(*compose_config("pretrain", overrides))


def running_choices() -> Choices:
    """The option that was chosen in each config group of Hydra's running job, whose config folders are used from now on."""
    search_path.use_sources((source.schema, source.path) for source in HydraConfig.get().runtime.config_sources)
    return dict(HydraConfig.get().runtime.choices)


def explain(error: Exception, config_name: str, typed: Iterable[str]) -> str:
    """Hydra's message for a config that does not compose, with the valid choices where Hydra does not name them."""
    if isinstance(error, OverrideParseException) and (quoted := _quoted(error.override)):
        return f"{error.override}: Hydra reads this otherwise than you mean. Quote the value, for the shell too: {quoted}"
    if isinstance(error, MissingConfigException) and error.options and (missing := error.missing_cfg_file):
        parts = missing.split("/")
        depth = next((at for at in range(len(parts) - 1, 0, -1) if search_path.is_group("/".join(parts[:at]))), 1)
        group, option = "/".join(parts[:depth]), "/".join(parts[depth:])
        elsewhere = next(
            (f"{other}={option} is one. " for other in search_path.groups() if option in search_path.options(other)), ""
        )
        return f"{group}={option}: there is no such option. {elsewhere}{nearest(option, error.options, f'Options of {group}')}"
    if several := _SEVERAL.match(str(error)):
        key, _, value = several[1].partition("=")
        how = "a command for each of them" if config_name == "chain" else "a sweep: add -m"
        return f"{several[1]}: several values are {how}. A value that is a list is {key}=[{value}]."
    message = str(error).partition("\nConfig search path:")[0].strip()
    choices = _valid_choices(config_name, typed)
    if choices is None and "Did you mean" not in message:
        return " ".join(message.split())
    advice = re.compile(r"\nTo append to your (config|default list) use .*")  # would only hide the typing error
    return " ".join([*advice.sub("", message).splitlines(), *([choices] if choices else [])])


def _quoted(override: str) -> str:
    """The override with its value as Hydra takes any text, as it is typed in a shell; empty if that does not help."""
    key, given, value = override.partition("=")
    escaped = value.replace('"', '\\"')
    try:
        parsed = OverridesParser.create().parse_overrides([f'{key}="{escaped}"'])
    except HydraException:
        return ""
    return shlex.quote(f'{key}="{escaped}"') if given and str(parsed[0].value()) == value else ""


def _valid_choices(config_name: str, typed: Iterable[str]) -> str | None:
    """For the first override that names nothing, the groups or keys that there are."""
    try:
        overrides = OverridesParser.create().parse_overrides([word for word in typed if "=" in word and word[0] != "-"])
        composed = _compose_groups(config_name, overrides)
    except HydraException:
        return None
    if composed is None:
        return None
    base, choices = composed
    chosen = {(place or key.replace("/", ".")): key for key in choices for _, _, place in [key.partition("@")]}
    for override in overrides:
        key = override.key_or_group
        if below := [name for name in search_path.groups() if name.startswith(f"{key}/") and not search_path.options(key)]:
            return f"There are {', '.join(below)}."
        if search_path.is_group(key) and not override.is_add() and key not in choices:
            return f"This command has no {key}. {nearest_key(key, [str(name) for name in base if str(name)[0] != '_'], '')}"
        if key.startswith("hydra") or search_path.is_group(key):
            continue
        if "/" in key:
            return nearest(key, search_path.groups(), "Groups")
        parent, leaf = _deepest(base, key)
        node = OmegaConf.select(base, parent) if parent else base
        if leaf in [*node]:  # also one that is yet to be set, which a config says that it lacks
            continue
        if parent in chosen and (owners := whose(chosen[parent].partition("@")[0], leaf)):
            return owners
        added = [f"+{group}" for group in search_path.groups() if "/" not in group and group not in node]
        own = [name for name in map(str, node) if name[0] != "_"]
        if own or parent not in chosen:
            known = nearest_key(leaf, [*own, *([] if parent else added)], parent)
        else:
            known = f"{chosen[parent]}={choices[chosen[parent]]} has no settings."
        places = _places(OmegaConf.to_container(base, resolve=False), leaf)
        if not places or "Did you mean" in known:
            return known
        return f"Did you mean {' or '.join(places)}?{f' {known}' if parent else ''}"
    return None


def _places(node: Any, leaf: str) -> list[str]:
    """Where else a config has a value of this name, the highest first."""
    below = [(str(name), value) for name, value in node.items() if isinstance(value, dict)] if isinstance(node, dict) else []
    found = [f"{name}.{leaf}" for name, value in below if leaf in value and not isinstance(value[leaf], dict)]
    deeper = [f"{name}.{place}" for name, value in below for place in _places(value, leaf)]
    return sorted([*found, *deeper], key=lambda place: place.count("."))[:3]


def _deepest(base: DictConfig, key: str) -> tuple[str, str]:
    """Split ``a.b.c`` into the longest existing mapping and the first name below it."""
    names = key.split(".")
    depth = 0
    while depth < len(names) - 1 and isinstance(OmegaConf.select(base, ".".join(names[: depth + 1])), DictConfig):
        depth += 1
    return ".".join(names[:depth]), names[depth]


def _compose_groups(config_name: str, overrides: list[Override]) -> tuple[DictConfig, Choices] | None:
    """The config under the group choices alone, or with none of them where they do not compose."""
    groups = [override.input_line or "" for override in overrides if search_path.is_group(override.key_or_group)]
    for attempt in (groups, []):
        try:
            return compose_config(config_name, attempt)
        except HydraException:
            continue
    return None
