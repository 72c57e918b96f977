"""What W&B's own files say of a run: the records that `wandb sync` sends, parsed by wandb's own messages."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import MetricRecord, Record, RunRecord

_BLOCK = 32768  # bytes; the file is a log of blocks, each record in one piece or several


@dataclass
class Shown:
    """A start of a run as a user of W&B would see it.

    Attributes:
        run: id, name, project, group, job type and tags.
        config: by key.
        metrics: definitions of curves by their name or the beginning of it.
        rows: the history.
        summary: by key; what W&B nests is nested.
        exit_code: None if the run never ended.
        artifacts: what tables are sent with: local files by their path in the artifact.
        folder: with ``files/``.
    """

    folder: Path
    run: RunRecord = field(default_factory=RunRecord)
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, MetricRecord] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    exit_code: int | None = None

    def curve(self, name: str, axis: str = "_step") -> list[tuple[float, float]]:
        """Points of one curve."""
        return [(row[axis], row[name]) for row in self.rows if name in row]


def read_starts(wandb_folder: Path) -> list[Shown]:
    """Every offline or online start below a run's ``wandb`` folder, in their order."""
    folders = {path.name.removeprefix("offline-"): path for path in wandb_folder.glob("*run-*") if not path.is_symlink()}
    return [_read(folders[name]) for name in sorted(folders)]


def read_only_start(wandb_folder: Path) -> Shown:
    (start,) = read_starts(wandb_folder)
    return start


def _read(folder: Path) -> Shown:
    (path,) = folder.glob("*.wandb")
    shown = Shown(folder)
    for record in records_of(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            shown.run = record.run
            shown.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "config":
            _update(shown.config, record.config.update)
        elif kind == "metric":
            shown.metrics[record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            shown.rows.append(row)
        elif kind == "summary":
            _update(shown.summary, record.summary.update)
        elif kind == "artifact":
            shown.artifacts |= {item.path: Path(item.local_path) for item in record.artifact.manifest.contents}
        elif kind == "exit":
            shown.exit_code = record.exit.exit_code
    return shown


def _update(values: dict[str, Any], items: Any) -> None:
    for item in items:
        place, keys = values, list(item.nested_key) or [item.key]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = json.loads(item.value_json)


def records_of(data: bytes) -> Iterator[Record]:
    assert data[:4] == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(data):
        if _BLOCK - position % _BLOCK < 7:  # too little for a header: padding
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        content = data[position + 7 : position + 7 + length]
        if kind == 0 or len(content) < length:  # the end of a file whose writer was killed
            return
        parts, position = parts + content, position + 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
