"""Hydra composes each job of a sweep twice and reads every config file anew each time: for many finished runs, minutes."""

import copy
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig


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
