"""Compose each config once: Hydra takes a tenth of a second for what hundreds of tests ask for again."""

import copy
import functools
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import omegaconf._utils
import omegaconf.base
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

ALWAYS = -1  # the time at which a file changed that comes with Hydra
Files = dict[Path, int]


def remember() -> None:
    """From now on this process reads a config file once as long as nobody changes it, and composes what is the same once.

    Whoever asks gets a copy of his own. A composition counts as the same if its search path, the folder of the process, the
    files that it was made of and all that was asked for are the same; one that differs in values alone, such as the folder of
    the runs, sets them in a copy of what its config groups make.
    """
    load, compose, map_choices = ConfigRepository.load_config, Hydra.compose_config, defaults_list._create_interpolation_map
    make_list, merge, parse = (
        config_loader_impl.create_defaults_list,
        ConfigLoaderImpl._compose_config_from_defaults_list,
        OverridesParser.parse_rule,
    )
    files: dict[tuple[str, str, str], tuple[int, bytes]] = {}
    composed: dict[object, tuple[Files, Any]] = {}
    parsed: dict[tuple[str, str], Any] = {}
    reading: list[Files] = []

    def load_once(self: ConfigRepository, config_path: str) -> Any:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() not in ("file", "pkg"):
            return load(self, config_path)
        changed = ALWAYS
        if source.scheme() == "file":
            path = Path(source.path, config_path if config_path.endswith(".yaml") else f"{config_path}.yaml").resolve()
            changed = path.stat().st_mtime_ns
            for read in reading:
                read[path] = changed
        elif source.path.partition(".")[0] != "hydra":
            return load(self, config_path)
        place = (source.provider, source.path, config_path)
        if place not in files or files[place][0] != changed:
            files[place] = (changed, pickle.dumps(load(self, config_path)))
        return pickle.loads(files[place][1])  # a copy: Hydra merges its very nodes into what it composes

    def map_when_read(overrides: Any, entries: list[Any], self_added: bool) -> DictConfig:
        """What Hydra makes of each file's defaults list, a third of its time, and reads where an entry is interpolated."""
        return map_choices(overrides, entries, self_added) if any(one.is_interpolation() for one in entries) else DictConfig({})

    def once(asked: object, make: Callable[[], Any]) -> Any:
        """What was made when the same was asked for, unless a file has changed that was read then."""
        known = composed.get(asked)
        if known is None or any(not path.exists() or path.stat().st_mtime_ns != at for path, at in known[0].items()):
            reading.append({})
            try:
                made = make()
            finally:
                read = reading.pop()
            known = composed[asked] = (read, made)
        else:
            for read in reading:
                read.update(known[0])
        return known[1]

    def compose_once(self: Hydra, config_name: str | None, overrides: list[str], *more: Any, **named: Any) -> Any:
        if named.get("with_log_configuration"):
            return compose(self, config_name, overrides, *more, **named)
        sources = tuple((source.provider, source.path) for source in self.config_loader.get_sources())
        asked = (sources, str(Path.cwd()), config_name, tuple(overrides), more, tuple(sorted(named.items())))
        return pickle.loads(once(asked, lambda: pickle.dumps(compose(self, config_name, overrides, *more, **named))))

    def parse_once(self: OverridesParser, text: str, rule: str) -> Any:
        if (text, rule) not in parsed:
            parsed[text, rule] = parse(self, text, rule)
        return parsed[text, rule]  # whoever gets it only reads it

    def list_once(repo: Any, config_name: str, overrides_list: Sequence[Any], *more: Any, **named: Any) -> Any:
        if any(override.is_sweep_override() for override in overrides_list):
            return make_list(repo, config_name, overrides_list, *more, **named)  # type: ignore[arg-type]
        values = [one for one in overrides_list if isinstance(one.value(), dict) or not repo.group_exists(one.key_or_group)]
        groups = [override for override in overrides_list if override not in values]
        asked = (_sources(repo), config_name, tuple(override.input_line for override in groups), more, *named.items())
        found = copy.copy(once(asked, lambda: make_list(repo, config_name, groups, *more, **named)))
        found.config_overrides = values
        return found

    def merge_once(self: ConfigLoaderImpl, defaults: Sequence[Any], repo: Any) -> Any:
        asked = (_sources(repo), tuple((one.config_path, one.package, one.is_self) for one in defaults))

        def make() -> bytes:
            repo.cache.clear()  # so that its files are read again, by which it is known
            return pickle.dumps(merge(self, defaults, repo))  # type: ignore[arg-type]

        return pickle.loads(once(asked, make))

    patched: list[tuple[Any, str, Any]] = [
        (defaults_list, "_create_interpolation_map", map_when_read),
        (ConfigRepository, "load_config", load_once),
        (Hydra, "compose_config", compose_once),
        (OverridesParser, "parse_rule", parse_once),
        (config_loader_impl, "create_defaults_list", list_once),
        (ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once),
        *((module, "parse", functools.cache(omegaconf.base.parse)) for module in (omegaconf.base, omegaconf._utils)),
    ]
    for where, name, faster in patched:
        setattr(where, name, faster)


def _sources(repo: Any) -> tuple[tuple[str, str], ...]:
    return tuple((source.provider, source.path) for source in repo.get_sources())
