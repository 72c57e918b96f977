"""What a run costs: the one list of cost columns, the costs that its record keeps, and those of a row measured anew."""

import math
from typing import NamedTuple

import msgspec

from exfuse.limits import Amount, Count


class CostColumn(NamedTuple):
    """A cost as tables, pages and reports show it.

    Attributes:
        key: its name in records, tables for programs and trackers.
        header: of a table's column.
        title: in words, with its unit, for charts and terminals.
        explanation: one line below a table's header.
        digits: after the point; None for three significant ones.
        scale: what the record's number is multiplied by where people read it.
        differs: whether tables show its difference to the row that a row builds on.
        measured: whether it depends on the machine, so that ``costs.json`` replaces it.
        timed: whether it is a time, which whatever else the machine does disturbs.
        gains: whether more of it is the cheaper.
    """

    key: str
    header: str
    title: str
    explanation: str
    digits: int | None = 1
    scale: float = 1.0
    differs: bool = False
    measured: bool = True
    timed: bool = False
    gains: bool = False


COSTS = (
    CostColumn(
        "parameters",
        "M params",
        "parameters (millions)",
        "millions of parameters, and the difference to the row it builds on",
        digits=None,
        scale=1e-6,
        differs=True,
        measured=False,
    ),
    CostColumn(
        "gigamacs",
        "GMACs",
        "GMACs of one image (10⁹ multiply-adds)",
        "10⁹ multiply-adds of one image, and the difference to the row it builds on",
        digits=None,
        differs=True,
        measured=False,
    ),
    CostColumn(
        "train_images_per_second", "img/s", "training images a second", "training images a second", timed=True, gains=True
    ),
    CostColumn("latency_ms", "ms", "latency of one image (ms)", "latency of one image in milliseconds", timed=True),
    CostColumn("peak_memory_mib", "MiB", "peak memory of training (MiB)", "peak memory of training", digits=0),
)
TIMED = tuple(column.key for column in COSTS if column.timed)
MEASURED = tuple(column.key for column in COSTS if column.measured)


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run cost, one field a column of `COSTS` and what they are costs of.

    Attributes:
        input: shape of the image that ``gigamacs`` and ``latency_ms`` are for.
        counter: of multiply-adds.
        memory_of: what the peak of memory is the peak of.
    """

    parameters: Count | None = None
    gigamacs: Amount | None = None
    latency_ms: Amount | None = None
    train_images_per_second: Amount | None = None
    peak_memory_mib: Amount | None = None
    input: tuple[int, ...] = ()
    counter: str = ""
    memory_of: str = ""


class Quartiles(msgspec.Struct, frozen=True):
    """Median and quartiles of a cost over rounds."""

    median: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.median <= self.high < math.inf:
            raise ValueError(f"{self.low}, {self.median}, {self.high} are no quartiles of a cost")

    @property
    def share(self) -> float:
        """How far the farther quartile lies from the median, as a share of it."""
        return max(self.high - self.median, self.median - self.low) / self.median


class RowCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one model under one recipe, which several rows may share.

    Attributes:
        rows: their names.
        identity: see `exfuse.store.measured_costs.cost_identity`.
        input: shape of the image whose evaluation was timed.
        batch: shape of the images of one optimiser step.
        latency_ms: of one evaluation, in float32.
        train_images_per_second: of optimiser steps in ``precision``, without loading.
        layout: of maps in memory, channels_last or contiguous; empty in files of earlier versions, which do not say.
        peak_memory_mib: of a training step, see `exfuse.store.measured_costs.Conditions`.
    """

    rows: list[str]
    identity: str
    input: list[int]
    batch: list[int]
    precision: str
    latency_ms: Quartiles
    train_images_per_second: Quartiles
    peak_memory_mib: float
    layout: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.peak_memory_mib < math.inf:
            raise ValueError(f"{self.peak_memory_mib} is no peak of memory")

    @property
    def values(self) -> dict[str, float | None]:
        """By the keys of `MEASURED`."""
        found = {key: getattr(self, key) for key in MEASURED}
        return {key: one.median if isinstance(one, Quartiles) else one for key, one in found.items()}
