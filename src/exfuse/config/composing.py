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
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from yaml import YAMLError

from exfuse.config import search_path

# as they are without any of this
_list, _compose = config_loader_impl.create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
_read, _deepcopy, _choices = ConfigRepository.load_config, DictConfig.__deepcopy__, defaults_list._create_interpolation_map


def compose_quickly() -> None:
    """Let Hydra read each config file once and compose what the same config groups make once.

    What is typed beside groups it sets in a copy, as ever; copies are made by pickle, far faster than by `copy.deepcopy`.
    """
    lists, kept = dict[object, Any](), dict[object, bytes]()

    def copy_of(asked: object, make: Callable[[], Any]) -> Any:
        if asked not in kept:
            kept[asked] = pickle.dumps(make())
        return pickle.loads(kept[asked])

    def list_once(repo: Any, config_name: str, overrides_list: Sequence[Any], *more: Any, **named: Any) -> Any:
        typed = [override for override in overrides_list if not override.is_sweep_override()]
        values = [one for one in typed if isinstance(one.value(), dict) or not repo.group_exists(one.key_or_group)]
        groups = [override for override in typed if override not in values]
        asked = (_sources(repo), config_name, tuple(override.input_line for override in groups), more, *named.items())
        if asked not in lists:
            lists[asked] = _list(repo, config_name, groups, *more, **named)
        found = copy.copy(lists[asked])
        found.config_overrides = values
        return found

    def compose_once(self: ConfigLoaderImpl, defaults: Sequence[Any], repo: Any) -> Any:
        asked = (_sources(repo), tuple((one.config_path, one.package, one.is_self) for one in defaults))
        return copy_of(asked, lambda: _compose(self, defaults, repo))  # type: ignore[arg-type]

    def read_in_words(self: ConfigRepository, config_path: str) -> Any:
        try:
            return _read(self, config_path)
        except (UnicodeDecodeError, YAMLError):
            if path := search_path.find(config_path.removesuffix(".yaml")):
                search_path.read(path)  # says which file it is, in a line
            raise

    def read_once(self: ConfigRepository, config_path: str) -> Any:
        return copy_of((_sources(self), config_path), lambda: read_in_words(self, config_path))

    def choices_where_asked(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
        return _choices(overrides, defaults, self_added) if any(one.is_interpolation() for one in defaults) else None

    def copied(self: DictConfig, memo: dict[int, Any]) -> DictConfig:
        return _deepcopy(self, memo) if self._get_parent() else pickle.loads(pickle.dumps(self))

    patched: list[tuple[Any, str, Any]] = [
        (config_loader_impl, "create_defaults_list", list_once),
        (ConfigLoaderImpl, "_compose_config_from_defaults_list", compose_once),
        (ConfigRepository, "load_config", read_once),
        (defaults_list, "_create_interpolation_map", choices_where_asked),
        (DictConfig, "__deepcopy__", copied),
        *((module, "parse", _parse_once) for module in (omegaconf.base, omegaconf._utils)),
    ]
    for where, name, faster in patched:
        setattr(where, name, faster)


def compose_each_job_once() -> None:
    """Let the running Hydra hand the config by which it validated a job on to the job.

    For the launcher that runs jobs in this process: others take the composer along to theirs.
    """
    loader: Any = GlobalHydra.instance().config_loader()
    compose, validated = loader.load_sweep_config, dict[tuple[str, ...], DictConfig]()

    def load_sweep_config(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        job = tuple(sweep_overrides)
        if job in validated:
            return validated.pop(job)
        return validated.setdefault(job, compose(master_config, sweep_overrides))

    loader.load_sweep_config = load_sweep_config


_parse_once = functools.cache(omegaconf.base.parse)  # of interpolations; whoever gets the tree only reads it


def _sources(repo: Any) -> tuple[tuple[str, str], ...]:
    return tuple((source.provider, source.path) for source in repo.get_sources())
