"""Latency, throughput and memory of a study's rows measured beside one another: ``costs.json`` in the study's folder.

What the records know was measured at the end of each run, beside whatever else ran there. This file replaces that.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from exfuse.limits import Amount, Count
from exfuse.store.checked import plain, read_json, write_sealed_json
from exfuse.store.costs import RowCosts
from exfuse.store.record import Record

FILE, SCHEMA = "costs.json", 1
_IDLE = 0.5  # chosen; what an idle machine's own work may come to, in cores
_LOSS = "cross_entropy"  # the usual one
# What a cost depends on; a recipe's learning rates count too: whoever retrains measures again.
_SETTINGS: Mapping[str, tuple[str, ...] | None] = {
    "technique": None,
    "decoder": None,
    "backbone": ("name", "arguments", "output_stride"),
    "recipe": None,
    "trainer": ("precision", "accumulate_grad_batches", "gradient_clip_val", "benchmark"),
    "runtime": ("channels_last", "compile", "tf32"),
}


class Conditions(msgspec.Struct, frozen=True):
    """Under which all rows were measured.

    Attributes:
        device: cpu or cuda; ``name`` is its model.
        cores: that the process might use; ``threads`` of them torch did.
        load: load average of the machine before anything was measured; None where the system knows none.
        rounds: in which the rows took turns, with ``repeats`` timings each.
        memory_of: what the peak of memory is the peak of.
    """

    device: str
    name: str
    cores: Count
    threads: Count
    torch: str
    cuda: str | None
    commit: str | None
    uncommitted_changes: bool | None
    load: Amount | None
    rounds: Count
    repeats: Count
    memory_of: str

    @property
    def busy(self) -> bool:
        """Whether other work may have taken time from the measured: more load than cores left over."""
        return self.load is not None and self.load > self.cores - self.threads + _IDLE


class MeasuredCosts(msgspec.Struct, frozen=True, dict=True):
    """The content of ``costs.json``."""

    conditions: Conditions
    rows: list[RowCosts]
    schema: int = SCHEMA

    @cached_property
    def _by_identity(self) -> dict[str, RowCosts]:
        return {row.identity: row for row in self.rows}

    def of(self, records: Iterable[Record]) -> RowCosts | None:
        """The costs of the row that has these finished runs; None if it was not measured as it is now."""
        identities = {cost_identity(record) for record in records}
        return self._by_identity.get(identities.pop()) if len(identities) == 1 else None


def cost_identity(record: Record) -> str:
    """Hash of what a finished run's costs depend on: model, recipe, number formats; not seed, data or weights."""
    content: dict[str, Any] = {}
    for group, names in _SETTINGS.items():
        part = record.config.get(group) or {}
        content[group] = part if names is None else {name: part.get(name) for name in names}
    content["recipe"] = {name: value for name, value in content["recipe"].items() if name != "val_every"}
    content |= {"classes": len(record.classes), "parameters": record.parameters}
    # only where they are unusual: what was measured before they counted keeps its identity
    if record.choices.get("loss", _LOSS) != _LOSS:
        content["loss"] = record.config["loss"]
    for name, usual in (("runtime.composed", True), ("trainer.deterministic", False), ("trainer.more.benchmark", False)):
        if record.setting(name) not in (usual, None):
            content[name] = record.setting(name)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_costs(folder: Path, costs: MeasuredCosts) -> Path:
    """Write the study's ``costs.json``, atomically."""
    path = folder / FILE
    write_sealed_json(path, plain(costs))
    return path


def read_costs(folder: Path) -> MeasuredCosts | None:
    """Read the study's ``costs.json``; None if it has none.

    Raises:
        UserError: if it is broken or of another schema.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    remedy = "Measure again: exfuse report costs FOLDER, or delete the file."
    return read_json(path, MeasuredCosts, "a whole file of measured costs", remedy, SCHEMA)
