"""A study folder read back: which rows its table has, which runs they rest on, and what became of each run."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfuse.errors import UserError
from exfuse.metrics.boundary_areas import BoundaryAreas
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store import variants
from exfuse.store.consistency import Deviation
from exfuse.store.folder import RunFolder, Scored
from exfuse.store.grouping import Grouping, grouping_of
from exfuse.store.measured_costs import MeasuredCosts
from exfuse.store.metric import MIOU, Metric
from exfuse.store.record import Record
from exfuse.store.study_file import Collected

MISSING = "missing"
TOLERANCE = 0.05  # between times of one architecture: a column with more is not shown


@dataclass(frozen=True)
class Run:
    """One row's run of one seed.

    Attributes:
        status: done, failed, interrupted, running, killed, or missing if there is no record.
        record: as `RunFolder.record` gives it; None if missing.
        folder: where it lies or would lie.
    """

    seed: int
    status: str
    record: Record | None
    folder: RunFolder

    @property
    def done(self) -> Record | None:
        """The record of a finished run, else None."""
        return self.record if self.record and self.record.done else None

    def counts(self) -> NDArray[np.int64]:
        """Per-image confusion counts (images, C, C) of a finished run, read when first asked for.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        return self._counted

    def additive(self) -> Areas | Means:
        """What each image contributes to a finished run's score, read when first asked for.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        return self._scored.additive

    def image_ids(self) -> list[str]:
        """Which images `additive` holds, in its order."""
        return self._scored.ids

    @property
    def grouping(self) -> Grouping | None:
        """Which of a finished run's images are not independent, see `RunFolder.scored`."""
        return self._scored.grouping if self.done else None

    @cached_property
    def boundary_areas(self) -> BoundaryAreas | None:
        """Areas near borders and inside objects of a finished run; None where they were not counted.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        return self.folder.boundary_areas(self.done) if self.done else None

    @cached_property
    def _counted(self) -> NDArray[np.int64]:
        return self.folder.counts(self.record)[0]

    @cached_property
    def _scored(self) -> Scored:
        found, said = self.folder.scored(self.record), self.done
        if said is not None:
            counted = found.additive.whole
            if not math.isclose(counted, said.score, rel_tol=1e-6, abs_tol=1e-6):
                precisely = said.metric.precisely
                raise UserError(
                    f"{self.folder.path}: its record says {precisely(said.score)} {said.metric.name}, and what was counted of "
                    f"its images gives {precisely(counted)}: one of them was altered. Copy it anew, or train it with "
                    "overwrite=true."
                )
        return found


@dataclass(frozen=True)
class StudyRow:
    """One line of a study's table.

    Attributes:
        options: the option of each technique.
        on: name of the row whose difference is shown, or None.
        paper: the paper's mIoU in %, or None.
        paper_trust: how far that number can be trusted: P read from the paper, N second-hand, R recalled.
        runs: by seed.
        techniques: the study's.
        costs: that stand for the records' own, by their names; None for one that was not measured beside the other rows'.
    """

    name: str
    options: Mapping[str, str]
    decoder: str
    on: str | None
    paper: float | None
    paper_trust: str | None
    runs: Mapping[int, Run]
    techniques: Sequence[variants.Technique] = ()
    costs: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name as tables and figures show it, see `exfuse.store.variants.short_name`."""
        return variants.short_name(self.name, self.options, self.decoder, self.techniques)

    def cost(self, key: str) -> float | None:
        """Mean over the finished seeds that know this cost, or what stands for it in ``costs``; None if there is neither."""
        if key in self.costs:
            return self.costs[key]
        known = [float(value) for record in self.records.values() if (value := record.cost(key)) is not None]
        return statistics.fmean(known) if known else None

    def scores(self, scale: float = 1.0) -> dict[int, float]:
        """Of the finished runs by seed, multiplied by ``scale``."""
        return {seed: scale * record.score for seed, record in self.records.items()}

    @cached_property
    def records(self) -> dict[int, Record]:
        """Records of the finished runs by seed."""
        return {seed: run.done for seed, run in self.runs.items() if run.done}


class Study(Collected, frozen=True, kw_only=True, dict=True):
    """A study and its records. `deviations` is empty unless ``mixed``: `load_study` refuses otherwise.

    Attributes:
        techniques: that its rows name, in order.
        measured: the study's ``costs.json``, which its rows' `StudyRow.costs` come from; None without.
        searched: records of the search's runs by key.
        withheld: times that no row shows, since they differ between rows of one architecture by more than `TOLERANCE`.
    """

    folder: Path
    rows: tuple[StudyRow, ...]
    techniques: tuple[variants.Technique, ...]
    deviations: tuple[Deviation, ...]
    searched: Mapping[str, Record | None]
    measured: MeasuredCosts | None = None
    withheld: tuple[str, ...] = ()

    def row(self, name: str) -> StudyRow:
        """The row of this name."""
        return self._by_name[name]

    @property
    def imported(self) -> bool:
        """Whether other code made its runs: its rows then name no technique."""
        return not self.techniques

    @cached_property
    def metric(self) -> Metric:
        """What its runs are scored by."""
        return next((record.metric for _, _, record in self.done()), MIOU)

    @cached_property
    def _by_name(self) -> dict[str, StudyRow]:
        return {row.name: row for row in self.rows}

    @cached_property
    def deviating(self) -> frozenset[tuple[str, int]]:
        """The (row, seed) whose settings are not those of most runs."""
        return frozenset(run for deviation in self.deviations for run in deviation.runs)

    def grouping(self, run: Run) -> Grouping | None:
        """Which images that a finished run was scored on are not independent; None where all are."""
        return run.grouping if self.groups is None else grouping_of(run.image_ids(), self.groups)

    @property
    def counted(self) -> bool:
        """Whether a score is mIoU of confusion counts summed over the images, rather than a mean of scores of images."""
        return all(record.scored is not None for _, _, record in self.done())

    def done(self) -> list[tuple[StudyRow, int, Record]]:
        """Every finished run: row, seed, record."""
        return self._done

    @cached_property
    def _done(self) -> list[tuple[StudyRow, int, Record]]:
        return [(row, seed, record) for row in self.rows for seed, record in row.records.items()]
