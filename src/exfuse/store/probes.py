"""What linear probes of a study found: ``probe.csv`` holds every result, ``probe.json`` settings and summary over seeds."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from exfuse.files import write_json
from exfuse.store.checked import plain, write_rows

FOLDER, INDEX = "probe", "probe.json"  # inside a study's folder, and inside that


class ProbeResult(msgspec.Struct, frozen=True):
    """The probes of one run, level and question, before and after SEB; accuracies are balanced and fractions."""

    run: str
    row: str
    seed: int
    seb: str
    level: str
    question: str
    before: float
    after: float
    chance: float
    cells: int


class ProbeSummary(msgspec.Struct, frozen=True):
    """One row, level and question over seeds; fractions, None where one seed says nothing of it.

    Attributes:
        low, high: Student's 95 % interval of after minus before over seeds.
    """

    row: str
    level: str
    question: str
    seeds: int
    before: float
    before_sd: float | None
    after: float
    after_sd: float | None
    difference: float
    low: float | None
    high: float | None
    chance: float


class ProbeIndex(msgspec.Struct, frozen=True):
    """The content of probe.json."""

    settings: dict[str, float | str | None]
    summary: list[ProbeSummary]


def write_probes(folder: Path, results: Sequence[ProbeResult], index: ProbeIndex) -> None:
    """Write both files into ``folder``."""
    write_rows(folder / "probe.csv", ProbeResult, results)
    write_json(folder / INDEX, plain(index))
