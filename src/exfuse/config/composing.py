"""Composing each config once in a process: Hydra reads every file and composes every job anew, twice and more."""

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig


def compose_groups_once() -> None:
    """Let Hydra compose what the same config groups make once; what is typed beside them it sets in a copy, as ever.

    Meant for a process of one command, in which no config file changes.
    """
    list_defaults, compose = config_loader_impl.create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
    lists, configs = dict[object, Any](), dict[object, Any]()

    def list_once(repo: Any, config_name: str, overrides_list: Sequence[Any], *more: Any, **named: Any) -> Any:
        typed = [override for override in overrides_list if not override.is_sweep_override()]
        values = [one for one in typed if isinstance(one.value(), dict) or not repo.group_exists(one.key_or_group)]
        groups = [override for override in typed if override not in values]
        asked = (_sources(repo), config_name, tuple(override.input_line for override in groups), more, *named.items())
        if asked not in lists:
            lists[asked] = list_defaults(repo, config_name, groups, *more, **named)
        found = copy.copy(lists[asked])
        found.config_overrides = values
        return found

    def compose_once(self: ConfigLoaderImpl, defaults: Sequence[Any], repo: Any) -> DictConfig:
        asked = (_sources(repo), tuple((one.config_path, one.package, one.is_self) for one in defaults))
        if asked not in configs:
            configs[asked] = compose(self, defaults, repo)  # type: ignore[arg-type]
        found: DictConfig = copy.deepcopy(configs[asked])
        return found

    config_loader_impl.create_defaults_list = list_once  # type: ignore[assignment]
    ConfigLoaderImpl._compose_config_from_defaults_list = compose_once  # type: ignore[method-assign]


def compose_each_job_once() -> None:
    """Let the running Hydra hand the config by which it validated a job on to the job, and read each config file once.

    For the launcher that runs jobs in this process: others take the composer along to theirs.
    """
    loader: Any = GlobalHydra.instance().config_loader()
    loader.repository = _ReadOnce(loader.repository)
    compose, validated = loader.load_sweep_config, dict[tuple[str, ...], DictConfig]()

    def load_sweep_config(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        job = tuple(sweep_overrides)
        if job in validated:
            return validated.pop(job)
        return validated.setdefault(job, compose(master_config, sweep_overrides))

    loader.load_sweep_config = load_sweep_config


def _sources(repo: Any) -> tuple[tuple[str, str], ...]:
    return tuple((source.provider, source.path) for source in repo.get_sources())


class _ReadOnce(ConfigRepository):
    """Config files by path, read and parsed once; a fresh copy for each composition, which changes it."""

    def __init__(self, repository: ConfigRepository) -> None:
        self.__dict__ |= repository.__dict__
        self._read: dict[str, Any] = {}

    def __deepcopy__(self, _: dict[int, Any]) -> "_ReadOnce":
        return self  # a composition copies its repository lest a new search path change it; no config here names one

    def load_config(self, config_path: str) -> Any:
        if config_path not in self._read:
            self._read[config_path] = super().load_config(config_path)
        return copy.deepcopy(self._read[config_path])
