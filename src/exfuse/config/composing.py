"""Composing in a process of one command, where no config file changes: Hydra reads, parses and copies the same many times."""

import copy
import functools
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import omegaconf._utils
import omegaconf.base
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from exfuse.config import search_path

# as they are without any of this
_list, _compose = config_loader_impl.create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
_read, _load = ConfigRepository.load_config, ConfigLoaderImpl._load_single_config
_choices = defaults_list._create_interpolation_map
_lists, _files, _kept = dict[object, Any](), dict[object, Any](), dict[object, bytes]()


def compose_quickly() -> None:
    """Let Hydra read each config file once and compose what the same config groups make once, until `forget`.

    What is typed beside groups it sets in a copy, as ever; copies are made by pickle, far faster than by `copy.deepcopy`.
    """
    patched: list[tuple[Any, str, Any]] = [
        (config_loader_impl, "create_defaults_list", _list_once),
        (ConfigLoaderImpl, "_compose_config_from_defaults_list", _compose_once),
        (ConfigLoaderImpl, "_load_single_config", _load_once),
        (ConfigRepository, "load_config", _read_once),
        (ConfigRepository, "__deepcopy__", lambda self, _: copy.copy(self)),  # a copy gets sources of its own, as a whole
        (defaults_list, "_create_interpolation_map", _choices_where_asked),
        (DictConfig, "__deepcopy__", _copied),
        *((module, "parse", _parse_once) for module in (omegaconf.base, omegaconf._utils)),
    ]
    for where, name, faster in patched:
        setattr(where, name, faster)


def forget() -> None:
    """Read and compose everything anew: a config file has changed."""
    for kept in (_lists, _files, _kept):
        kept.clear()


def _copy_of(asked: object, make: Callable[[], Any]) -> Any:
    if asked not in _kept:
        _kept[asked] = pickle.dumps(make())
    return pickle.loads(_kept[asked])


def _list_once(repo: Any, config_name: str, overrides_list: Sequence[Any], *more: Any, **named: Any) -> Any:
    typed = [override for override in overrides_list if not override.is_sweep_override()]
    values = [one for one in typed if isinstance(one.value(), dict) or not repo.group_exists(one.key_or_group)]
    groups = [override for override in typed if override not in values]
    asked = (_sources(repo), config_name, tuple(override.input_line for override in groups), more, *named.items())
    if asked not in _lists:
        _lists[asked] = _list(repo, config_name, groups, *more, **named)
    found = copy.copy(_lists[asked])
    found.config_overrides = values
    return found


def _compose_once(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
    def compose() -> Any:
        try:
            config = _merge(self, defaults, repo)
        except OmegaConfBaseException:
            return _compose(self, defaults, repo)  # says in which file
        _strip_defaults(config)
        return config

    return _copy_of(("composed", *_named(defaults, repo)), compose)


def _merge(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
    """Part by part: what configs that differ in few groups begin with is merged once."""
    before = defaults[: (len(defaults) - 1) // _PART * _PART]
    config = _copy_of(_named(before, repo), lambda: _merge(self, before, repo)) if before else OmegaConf.create()
    with flag_override(config, "no_deepcopy_set_nodes", True):
        config.merge_with(*(self._load_single_config(default, repo).config for default in defaults[len(before) :]))
    return config


def _load_once(self: ConfigLoaderImpl, default: Any, repo: Any) -> Any:
    return _copy_of(("loaded", *_named([default], repo)), lambda: _load(self, default, repo))


def _read_in_words(self: ConfigRepository, config_path: str) -> Any:
    try:
        return _read(self, config_path)
    except (UnicodeDecodeError, YAMLError):
        if path := search_path.find(config_path.removesuffix(".yaml")):
            search_path.read(path)  # says which file it is, in a line
        raise


def _read_once(self: ConfigRepository, config_path: str) -> Any:
    asked = (_sources(self), config_path)
    if asked not in _files:
        _files[asked] = _read_in_words(self, config_path)
    return _files[asked]  # whoever gets it only reads it


def _choices_where_asked(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
    return _choices(overrides, defaults, self_added) if any(one.is_interpolation() for one in defaults) else None


def _copied(self: DictConfig, memo: dict[int, Any]) -> DictConfig:  # noqa: ARG001 - the copy shares nothing
    parent = self.__dict__["_parent"]
    self.__dict__["_parent"] = None
    try:
        found: DictConfig = pickle.loads(pickle.dumps(self))
    finally:
        self.__dict__["_parent"] = parent
    found.__dict__["_parent"] = parent  # kept and not copied, as ever
    return found


_HAS_DEFAULTS = "HYDRA_REMOVE_TOP_LEVEL_DEFAULTS"  # Hydra's mark
_PART = 10  # files
_parse_once = functools.cache(omegaconf.base.parse)  # of interpolations; whoever gets the tree only reads it


def _sources(repo: Any) -> tuple[tuple[str, str], ...]:
    return tuple((source.provider, source.path) for source in repo.get_sources())


def _named(defaults: Sequence[Any], repo: Any) -> tuple[object, ...]:
    return _sources(repo), *((one.config_path, one.package, one.is_self, one.primary) for one in defaults)


def _strip_defaults(config: Any) -> None:
    """Take out the lists of defaults that Hydra leaves in structured configs while it merges them."""
    if not isinstance(config, DictConfig) or config._is_missing() or config._is_none():
        return
    if config._get_flag(_HAS_DEFAULTS):
        with flag_override(config, ["readonly", "struct"], False):
            config._set_flag(_HAS_DEFAULTS, None)
            config.pop("defaults", None)
    for _, value in config.items_ex(resolve=False):
        _strip_defaults(value)
