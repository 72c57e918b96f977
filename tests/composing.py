"""Compose each config once: Hydra takes a tenth of a second for what hundreds of tests ask for again."""

import pickle
from pathlib import Path
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig

ALWAYS = -1  # the time at which a file changed that comes with Hydra


def remember() -> None:
    """From now on this process reads a config file once as long as nobody changes it, and composes what is the same once.

    Whoever asks gets a copy of his own. A composition counts as the same if its search path, the folder of the process, the
    files that it was made of and all that was asked for are the same.
    """
    load, compose, map_choices = ConfigRepository.load_config, Hydra.compose_config, defaults_list._create_interpolation_map
    files: dict[tuple[str, str, str], tuple[int, bytes]] = {}
    composed: dict[object, tuple[dict[Path, int], bytes]] = {}
    reading: list[dict[Path, int]] = []

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

    def compose_once(self: Hydra, config_name: str | None, overrides: list[str], *more: Any, **named: Any) -> Any:
        sources = tuple((source.provider, source.path) for source in self.config_loader.get_sources())
        asked = (sources, str(Path.cwd()), config_name, tuple(overrides), more, tuple(sorted(named.items())))
        known = composed.get(asked)
        if known is None or any(not path.exists() or path.stat().st_mtime_ns != at for path, at in known[0].items()):
            reading.append({})
            try:
                config = compose(self, config_name, overrides, *more, **named)
            finally:
                read = reading.pop()
            if named.get("with_log_configuration"):
                return config
            known = composed[asked] = (read, pickle.dumps(config))
        return pickle.loads(known[1])

    defaults_list._create_interpolation_map = map_when_read
    ConfigRepository.load_config = load_once  # type: ignore[method-assign]
    Hydra.compose_config = compose_once  # type: ignore[method-assign]
