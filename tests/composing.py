"""Compose each config once: Hydra takes a fiftieth of a second for what hundreds of tests ask for again."""

import pickle
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra

from exfuse.config.composing import compose_quickly, forget
from exfuse.files import CONFIG_DIR

_Files = tuple[tuple[str, int], ...]


def remember() -> None:
    """From now on this process composes as the command does, and what is the same once, as long as nobody changes a file.

    Whoever asks gets a copy of his own. A composition is the same if its search path, the files below it, the folder of the
    process and all that was asked for are the same.
    """
    compose_quickly()
    compose = Hydra.compose_config
    composed: dict[object, bytes] = {}
    known: dict[object, _Files] = {}

    def compose_once(self: Hydra, config_name: str | None, overrides: list[str], *more: Any, **named: Any) -> Any:
        sources = tuple((source.scheme(), source.path) for source in self.config_loader.get_sources())
        files = tuple(one for scheme, path in sources if scheme == "file" for one in _files(Path(path)))
        if known.setdefault(sources, files) != files:
            known[sources] = files
            forget()
        if named.get("with_log_configuration"):
            return compose(self, config_name, overrides, *more, **named)
        asked = (sources, files, str(Path.cwd()), config_name, tuple(overrides), more, *named.items())
        if asked not in composed:
            composed[asked] = pickle.dumps(compose(self, config_name, overrides, *more, **named))
        return pickle.loads(composed[asked])

    Hydra.compose_config = compose_once  # type: ignore[method-assign]


def _files(folder: Path) -> _Files:
    """The configs below a folder, and when each has changed; the project's own stay as they are."""
    if folder.samefile(CONFIG_DIR) if folder.exists() else True:
        return ()
    return tuple((str(path), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*.yaml")))
