"""Starting from the whole model of another run (``init_from``): which run that is, and whether its weights fit."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from exfuse.composition.reading import plain
from exfuse.errors import CheckpointError, ConfigError
from exfuse.files import sha256
from exfuse.store.folder import RunFolder
from exfuse.store.record import InitFrom, Record

_KEY = re.compile(r"[0-9a-f]{16}")
# What makes the architecture; both runs must agree on it.
_ARCHITECTURE = {"technique": None, "decoder": None, "backbone": ("name", "arguments", "output_stride")}


class Start(NamedTuple):
    """A finished run whose model another one starts from.

    Attributes:
        folder: of the run.
        record: that it left.
        checkpoint: SHA-256 of its last checkpoint.
    """

    folder: RunFolder
    record: Record
    checkpoint: str

    def __str__(self) -> str:
        miou = 100 * self.record.scores.miou
        return f"whole model of run {self.folder.key}, {self.record.data}, {miou:.1f} % mIoU"

    def lend_normalisation(self, config: DictConfig) -> None:
        """Let images be scaled as this run's were, where ``config`` names no scaling of its own."""
        if config.backbone.normalisation is None:
            config.backbone.normalisation = self.record.config["backbone"]["normalisation"]

    def describe(self) -> InitFrom:
        """What the record of the run that starts here keeps of it, for provenance."""
        return InitFrom(self.folder.key, self.record.data, self.record.label, self.checkpoint)


def start_folder(config: DictConfig) -> RunFolder | None:
    """The folder of the run that ``config.init_from`` names, which need not be there yet; None for a null.

    Args:
        config: of a segmentation run.

    Raises:
        ConfigError: if ``init_from`` is neither a run's folder nor the key of one.
    """
    if config.init_from is None:
        return None
    path = Path(str(config.init_from))
    if not _KEY.fullmatch(path.name):
        raise ConfigError(
            f"init_from={config.init_from}: expected a run's folder, .../KEY, or its key of 16 hexadecimal digits."
        )
    return RunFolder(path.parent if len(path.parts) > 1 else Path(config.paths.runs), path.name)


def find_start(config: DictConfig, classes: tuple[str, ...]) -> Start | None:
    """The run that ``config.init_from`` names, once it is known to be whole and to fit; None for a null.

    Args:
        config: of a segmentation run.
        classes: names of the ids that it will learn.

    Raises:
        ConfigError: if ``init_from`` names no finished run, or its model has another architecture or other classes.
        CheckpointError: if its checkpoint is missing or not the one that its record describes.
    """
    folder = start_folder(config)
    if folder is None:
        return None
    record = folder.finished()
    if record is None or record.scored is None:
        raise ConfigError(f"init_from={config.init_from}: {folder.path} holds no finished run. Finish or choose another.")
    theirs = tuple(record.classes)
    if theirs != classes:
        raise ConfigError(
            f"init_from={config.init_from} knows {len(theirs)} classes ({', '.join(theirs[:4])}, ...), this run's data name "
            f"{len(classes)} ({', '.join(classes[:4])}, ...): a whole model starts only from the same classes."
        )
    if differing := [*_differences(_architecture(record.config), _architecture(plain(config)))]:
        raise ConfigError(
            f"init_from={config.init_from} is of another architecture: {'; '.join(differing[:4])}. Choose the same options, or "
            "another run."
        )
    found = sha256(folder.last)
    if not folder.last.is_file() or (record.checkpoint_sha256 or found) != found:
        raise CheckpointError(
            f"{folder.last} is not the checkpoint that its record describes: it was cut short, altered or removed. Copy it "
            f"anew, or train run {folder.key} again with overwrite=true."
        )
    return Start(folder, record, found)


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        group: config[group] if names is None else {name: config[group][name] for name in names}
        for group, names in _ARCHITECTURE.items()
    }


def _differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for name in sorted({*theirs, *ours}):
            yield from _differences(theirs.get(name), ours.get(name), f"{path}.{name}" if path else str(name))
    elif theirs != ours:
        yield f"{path} is {theirs} there and {ours} here"
