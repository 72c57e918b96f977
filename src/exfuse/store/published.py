"""A trained model as a folder for Hugging Face's Hub: weights, what they are, and a card for people. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from exfuse.store.checked import Index, read_index, with_texts

WEIGHTS, CARD = "model.safetensors", "README.md"
SCHEMA = 1


class Published(Index, frozen=True, kw_only=True):
    """``config.json``, sealed, with the hash of the weights beside it.

    Attributes:
        schema: of the file.
        key: of the run whose model this is.
        label: its variant.
        data: what it was trained and scored on.
        commit: of the code that trained it; None where that is unknown.
        numbers_version: of the code.
        code: outside this package, see `exfuse.store.record.Environment`.
        channels_last: the memory layout in which it was scored.
        classes: names of the scores' channels.
        miou: on val, a fraction.
        config: the run's description, without places of the machine that trained it.
    """

    INDEX: ClassVar[str] = "config.json"
    schema: int = SCHEMA
    key: str
    label: str
    data: str
    commit: str | None
    numbers_version: int
    code: dict[str, str] = {}
    channels_last: bool
    classes: list[str]
    miou: float
    config: dict[str, Any]

    def paths(self) -> list[str]:
        return [WEIGHTS]


def is_published(path: Path) -> bool:
    """Whether a path is the folder of a published model."""
    return (path / WEIGHTS).is_file() or (path / Published.INDEX).is_file()


def read_published(folder: Path) -> Published:
    """What a folder says of its model, whose weights are those that were written.

    Raises:
        UserError: if it is cut short or altered, or its weights are.
    """
    return read_index(folder, Published, "the description of a published model", "Fetch or export it anew.", SCHEMA)


def without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's plain description for others: of absolute paths the last part, nobody's logger, no folder of this machine."""
    plain = with_texts(config, lambda text: Path(text).name if Path(text).is_absolute() else text)
    return plain | {"logger": {"option": "csv"}, "paths": {name: name for name in config["paths"]}}
