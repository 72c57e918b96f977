"""What files of other code say in words: what a run is, what holds for all of a folder, what columns and images are called."""

import codecs
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import yaml
from msgspec import Meta
from numpy.typing import NDArray

from exfuse.config.search_path import YamlLoader
from exfuse.errors import UserError, repeated
from exfuse.limits import BARE, Amount, Count, Seed
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store.checked import typed
from exfuse.store.grouping import GroupRule
from exfuse.store.metric import Metric, MetricName, MetricUnit
from exfuse.store.study_file import Claim

STUDY_FILES = ("study.yaml", "study.yml", "study.json")
PAGE = "See docs/other_code.md."
_LONGEST = 500  # characters of an image's name
_SUMMARIES = {"mean", "average", "avg", "median", "std", "sd", "min", "max", "sum", "total", "overall", "all"}
_TEXT_BYTES = 1 << 20  # of a file of settings
Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=BARE)]
Ids = tuple[str, ...]


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the score is called, in which unit the files give it and which direction is better; see `Metric`."""

    name: MetricName
    unit: MetricUnit
    better: Literal["higher", "lower"]
    digits: Annotated[int, Meta(ge=0, le=9)] | None = None

    def metric(self, scores: NDArray[np.float64]) -> Metric:
        """With as many digits as show three significant ones, unless they are said or the unit is one of shares."""
        found = Metric(self.name, self.unit, self.better)
        digits, size = self.digits, float(np.abs(scores).mean())
        if digits is None and found.top is None:
            digits = min(9, max(0, 2 - math.floor(math.log10(size)))) if size > 0 else found.digits
        return msgspec.structs.replace(found, digits=found.digits if digits is None else digits)


class RunFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``RUN.json``: what a run is, beside ``RUN.npz`` or ``RUN.csv`` with what it scored; see docs/other_code.md."""

    row: Name
    seed: Seed
    settings: dict[str, Any] = {}
    data: str = ""
    classes: list[Name] | None = None
    metric: Score | None = None
    parameters: Count | None = None
    gigamacs: Amount | None = None


class FolderFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``study.yaml``: what holds for all runs of a folder; every field may be left out. See docs/other_code.md."""

    name: str = ""
    title: str = ""
    question: str = ""
    data: str = ""
    classes: list[Name] | None = None
    metric: Score | None = None
    rows: list[Name] | dict[Name, str | None] = []
    baseline: str = ""
    factors: list[str] | None = None
    claims: list[Claim] = []
    groups: GroupRule | None = None


class Columns(msgspec.Struct, frozen=True):
    """What the columns of tables are called; ``seed`` may be a number instead, that of all of a table's runs."""

    row: str = "row"
    seed: str = "seed"
    image: str = "image"
    score: str = "score"
    group: str = "group"


@dataclass(frozen=True)
class Found:
    """One run as its files tell it.

    Attributes:
        path: of the file that says which run it is.
        ids, groups: of its images; the latter None where no group is told.
        confusion: counts (C, C) of all images, where they are known.
    """

    path: Path
    run: RunFile
    ids: Ids
    additive: Areas | Means
    groups: Ids | None = None
    confusion: NDArray[np.int64] | None = None

    @property
    def where(self) -> str:
        """The file, and where it is a table of several runs, which of them."""
        return f"{self.path} (row {self.run.row}, seed {self.run.seed})" if self.path.suffix == ".csv" else str(self.path)


def read_bytes(path: Path, most: int) -> bytes:
    """A file's content; refused if it is a link, empty, or has more than ``most`` bytes."""
    if path.is_symlink():
        raise UserError(f"{path} is a link, which may lead anywhere: copy the file itself.")
    if not path.is_file():
        raise UserError(f"{path} is no file.")
    if (size := path.stat().st_size) > most:
        raise UserError(f"{path} has {size / 1e6:.0f} MB, expected {most / 1e6:.0f} at most. Is that the file you meant?")
    if size == 0:
        raise UserError(f"{path} is empty.")
    return path.read_bytes()


def read_stated(path: Path, kind: type[Any], what: str) -> Any:
    """A JSON or YAML file as ``kind``."""
    content, remedy = read_bytes(path, _TEXT_BYTES), f"It has the keys {', '.join(kind.__struct_fields__)}. {PAGE}"
    try:
        if path.suffix == ".json":
            content = content.removeprefix(codecs.BOM_UTF8)
            msgspec.json.decode(content)  # which takes no NaN
            plain = json.loads(content, object_pairs_hook=_once)
        else:
            plain = yaml.load(content, YamlLoader)
    except (msgspec.MsgspecError, yaml.YAMLError, ValueError, RecursionError) as error:
        form = "JSON" if path.suffix == ".json" else "YAML"
        problem = " ".join(str(error).split())
        raise UserError(f"{path} is no {form} in UTF-8 ({problem}). {PAGE}") from error
    found = typed(plain, kind, path, what, remedy)
    for text in _texts(plain):
        if not text.isprintable():
            raise UserError(f"{path} holds {text[:40]!r}: expected text that can be shown in one line.")
    return found


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping of these pairs, of which readers would drop all but the last of one name.

    Raises:
        ValueError: if two have one name.
    """
    if twice := repeated(name for name, _ in pairs):
        raise ValueError(f"{twice[0]} stands there twice")
    return dict(pairs)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from (*_texts(name), *_texts(value))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


def check_image(name: str, where: str) -> None:
    """Refuse what is no image's name, or looks like that of a sum over images."""
    if not name or len(name) > _LONGEST or not name.isprintable():
        raise UserError(f"{where}: {name[:40]!r} is no image's name: expected 1 to {_LONGEST} characters that can be shown.")
    if name.casefold() in _SUMMARIES:
        raise UserError(f"{where}: an image called {name!r} looks like a summary of the others. Remove that line.")


def refuse_twins(ids: Ids, where: str) -> None:
    """Refuse an image that is there twice."""
    if twice := repeated(ids):
        raise UserError(f"{where}: image {twice[0]} stands there twice.")
