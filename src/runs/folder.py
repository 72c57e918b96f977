"""A run's folder: named by its key, with a status that only a whole run calls done."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from src.errors import UserError
from src.runs.files import write_json

SCHEMA = 1


@dataclass(frozen=True)
class RunFolder:
    """Files of one run, or of one pretrained backbone: ``<root>/<key>/``.

    config.yaml         the resolved config
    environment.json    versions, device, commit
    record.json         status, scores; "done" is written last
    backbone.safetensors  of a backbone alone: its weights
    confusion.npz       per-image confusion counts (images, C, C) and the images' ids
    per_class.csv       IoU of each class
    predictions.png     images, truth and predictions side by side
    checkpoints/        last.ckpt after every epoch, best.ckpt by val mIoU
    logs/               what the loggers write
    """

    root: Path
    key: str

    @property
    def path(self) -> Path:
        return self.root / self.key

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.ckpt"

    def record(self) -> dict[str, Any] | None:
        """What the run says of itself, or None before its first start.

        Raises:
            UserError: if the record cannot be read or is of another schema: it must not be trusted.
        """
        path = self.path / "record.json"
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text())
            if record["schema"] == SCHEMA and record["key"] == self.key and record["status"]:
                return record
        except (ValueError, KeyError, TypeError):
            pass
        raise UserError(
            f"{path} is not a whole record of run {self.key} (schema {SCHEMA}). "
            "Delete the folder, or add overwrite=true to train this run anew."
        )

    def write_record(self, status: str, **content: Any) -> dict[str, Any]:
        """Write the record atomically and return it."""
        record = {"schema": SCHEMA, "key": self.key, "status": status, **content}
        write_json(self.path / "record.json", record)
        return record

    def clear(self) -> None:
        """Forget everything of an earlier start."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def locked(self, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
        """Hold the run, so that no second process trains it at the same time.

        Args:
            on_wait: called once before waiting for another process that holds the run; None does not wait.

        Raises:
            UserError: if another process holds it and this one is not to wait.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f".{self.key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if on_wait is None:
                raise UserError(
                    f"Run {self.key} is being trained by another process. Wait for it, or stop it and start again."
                ) from error
            on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def find_finished(folders: Sequence[Path]) -> list[tuple[RunFolder, dict[str, Any]]]:
    """Every finished run in or at ``folders`` with its record, by folder name.

    Raises:
        UserError: see `RunFolder.record`.
    """
    paths = [path for folder in folders for path in (folder, *sorted(folder.glob("*"))) if (path / "record.json").is_file()]
    found = [(folder, folder.record()) for folder in (RunFolder(path.parent, path.name) for path in paths)]
    return [(folder, record) for folder, record in found if record and record["status"] == "done"]
