"""Composing in a process of one command, where no config file changes: Hydra reads, parses and copies the same many times."""

import copy
import functools
import pickle
import re
from collections.abc import Callable, Sequence
from typing import Any

import omegaconf._utils
import omegaconf.base
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from yaml import YAMLError

from exfuse.config import search_path

# as they are without any of this
_list, _compose = config_loader_impl.create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
_read, _deepcopy, _choices = ConfigRepository.load_config, DictConfig.__deepcopy__, defaults_list._create_interpolation_map
_parse = OverridesParser.parse_rule


def compose_quickly() -> None:
    """Let Hydra read each config file once and compose what the same config groups make once.

    What is typed beside groups it sets in a copy, as ever; copies are made by pickle, far faster than by `copy.deepcopy`.
    """
    lists, kept, parsed = dict[object, Any](), dict[object, bytes](), dict[tuple[str, str], Any]()

    def copy_of(asked: object, make: Callable[[], Any]) -> Any:
        if asked not in kept:
            kept[asked] = pickle.dumps(make())
        return pickle.loads(kept[asked])

    def parse_once(self: OverridesParser, text: str, rule: str) -> Any:
        if (text, rule) not in parsed:
            parsed[text, rule] = _parse(self, text, rule)
        return parsed[text, rule]  # whoever gets it only reads it

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
        (OverridesParser, "parse_rule", parse_once),
        *((module, "parse", _parse_once) for module in (omegaconf.base, omegaconf._utils)),
    ]
    for where, name, faster in patched:
        setattr(where, name, faster)


def compose_each_job_once() -> None:
    """Let the running Hydra hand the config by which it validated a job on to the job, and compose a row once for all seeds.

    For the launcher that runs jobs in this process: others take the composer along to theirs.
    """
    loader: Any = GlobalHydra.instance().config_loader()
    compose = loader.load_sweep_config
    validated, rows = dict[tuple[str, ...], DictConfig](), dict[tuple[str, ...], bytes]()

    def load_sweep_config(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        job = tuple(sweep_overrides)
        if job in validated:
            return validated.pop(job)
        row = tuple("seed" if _SEED.fullmatch(word) else word for word in job)
        if row in rows and row.count("seed") == 1:
            validated[job] = _with_seed(pickle.loads(rows[row]), job, row.index("seed"))
        else:
            validated[job] = compose(master_config, sweep_overrides)
            rows[row] = pickle.dumps(validated[job])
        return validated[job]

    loader.load_sweep_config = load_sweep_config


_SEED = re.compile("seed=(0|[1-9][0-9]*)")


def _with_seed(config: DictConfig, job: Sequence[str], place: int) -> DictConfig:
    """A job's config, made from that of the same row with another seed; ``place`` is where the seed was typed."""
    config.seed = int(job[place].partition("=")[2])
    hydra, named = config.hydra, config.hydra.job.config.override_dirname
    hydra.overrides.task = [*job]
    typed = OverridesParser.create().parse_overrides([*job])
    hydra.job.override_dirname = config_loader_impl.get_overrides_dirname(
        overrides=typed, kv_sep=named.kv_sep, item_sep=named.item_sep, exclude_keys=named.exclude_keys
    )
    return config


_parse_once = functools.cache(omegaconf.base.parse)  # of interpolations; whoever gets the tree only reads it


def _sources(repo: Any) -> tuple[tuple[str, str], ...]:
    return tuple((source.provider, source.path) for source in repo.get_sources())
