"""A run's folder: named by its key, with a status that only a whole run calls done."""

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from exfuse.errors import HeldError, UserError
from exfuse.files import is_locked, remove_abandoned
from exfuse.metrics.boundary_areas import BoundaryAreas
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store.grouping import Grouping, grouping_of, rule_of
from exfuse.store.record import INTERRUPTED, RECORD, RUNNING, Record, read_record, write_record
from exfuse.store.seal import CHECKPOINTS, LAST

COUNTS = "confusion.npz"
IMPORTED = "scores.npz"
BOUNDARY = "boundary.npz"
WEIGHTS = "backbone.safetensors"
_READERS = 4  # threads: they overlap waiting for the disk
_AGAIN = "add overwrite=true to train this run anew"


class Scored(NamedTuple):
    """What each image of a run contributes to its score, the images' ids, and which are not independent: None where all are."""

    additive: Areas | Means
    ids: list[str]
    grouping: Grouping | None


@dataclass(frozen=True)
class RunFolder:
    """Files of one run, or of one pretrained backbone: ``<root>/<key>/``.

    config.yaml         the resolved config
    record.json         status, scores, costs, versions, commit; "done" is written last
    backbone.safetensors  of a backbone alone: its weights
    confusion.npz       per-image confusion counts (images, C, C), the images' ids and, where they are not independent, groups
    scores.npz          in its place where other code counted areas (images, C) alone, or scores (images,) are no counts at all
    boundary.npz        per-image areas near borders, inside objects and along contours, see `exfuse.metrics.boundary_areas`
    per_class.csv       IoU of each class
    predictions.png     images, truth and predictions side by side
    checkpoints/        last.ckpt after every epoch, best.ckpt by val mIoU
    logs/               what the loggers write
    output.log          what the training printed, where a sweep started it
    """

    root: Path
    key: str

    @classmethod
    def of(cls, path: Path) -> "RunFolder":
        """The run whose folder this is, or whose checkpoint; of a file elsewhere the folder that it lies in. See `straight`."""
        if not path.is_dir():
            path = path.resolve() if ".." in path.parts else path if len(path.parts) > 2 else path.absolute()
            path = path.parent
            path = path.parent if path.name == CHECKPOINTS else path
        place = straight(path)
        return cls(place.parent, place.name)

    @classmethod
    def name_of(cls, path: Path) -> str:
        """What is made of a run, or of a checkpoint, is called so: by the run's key, and by the file unless it is ``last``."""
        key = cls.of(path).key
        return key if path.is_dir() or path.stem == "last" else f"{key}_{path.stem}"

    @classmethod
    def identity_of(cls, path: Path) -> str:
        """As `name_of` of a run that has its record; a checkpoint or model that lies alone is known by its place."""
        return cls.name_of(path) if (cls.of(path).path / RECORD).is_file() else str(path.resolve())

    @property
    def path(self) -> Path:
        return self.root / self.key

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def last(self) -> Path:
        return self.checkpoints / LAST

    def record(self) -> Record | None:
        """What the run says of itself, or None before its first start.

        Raises:
            UserError: if the record is cut short, altered or of an unknown schema: it must not be trusted.
        """
        path = self.path / RECORD
        return read_record(path, self.key) if path.exists() else None

    def finished(self) -> Record | None:
        """The record of a run or backbone that is done and whose result still lies beside it; else None.

        Raises:
            UserError: see `record`.
        """
        record = self.record()
        if record is None or not record.done:
            return None
        return record if (self.path / (WEIGHTS if record.pretraining else self.counted_in(record)[0])).is_file() else None

    def write(self, record: Record) -> Record:
        """Write the record atomically and return it."""
        return write_record(self.path / RECORD, record)

    def counts(self, record: Record | None = None) -> tuple[NDArray[np.int64], list[str]]:
        """Per-image confusion counts (images, C, C), row = true class, column = predicted, and the images' ids.

        Args:
            record: the run's, if it is known already: of thousands, none need be read twice.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        arrays = self._counted(record or self.record())
        return arrays["counts"].astype(np.int64), arrays["ids"].tolist()

    def scored(self, record: Record | None = None) -> "Scored":
        """What each image contributes to the score; which are not independent is as the file says.

        Files of a version that knew no groups are read by what the config of their data set says today.

        Args:
            record: the run's, if it is known already.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        record = record or self.record()
        arrays = self._counted(record)
        ids: list[str] = arrays["ids"].tolist()
        if "groups" in arrays:
            grouping: Grouping | None = Grouping(tuple(map(str, arrays["groups"])), bool(arrays["ordered"]))
        else:
            data = (record and record.setting("data")) or {}
            rule = None if "groups" in data else rule_of(data.get("name", ""))
            grouping = grouping_of(ids, rule) if rule else None
        if "scores" in arrays:
            return Scored(Means(arrays["scores"].astype(np.float64)), ids, grouping)
        if "counts" in arrays:
            return Scored(Areas.of_counts(arrays["counts"].astype(np.int64)), ids, grouping)
        return Scored(Areas(*(arrays[name].astype(np.int64) for name in Areas._fields)), ids, grouping)

    def counted_in(self, record: Record | None) -> tuple[str, str | None]:
        """The file of what each image contributes to the score, and the hash that the record knows of it."""
        if record is not None and record.imported_sha256:
            return IMPORTED, record.imported_sha256
        return COUNTS, record.confusion_sha256 if record is not None else None

    def _counted(self, record: Record | None) -> dict[str, NDArray[Any]]:
        again = "import it anew" if record and record.imported else _AGAIN
        return self._arrays(*self.counted_in(record), "confusion counts or scores", again)

    def _arrays(self, name: str, expected: str | None, what: str, again: str) -> dict[str, NDArray[Any]]:
        content = path.read_bytes() if (path := self.path / name).is_file() else b""
        if expected != hashlib.sha256(content).hexdigest():
            raise UserError(
                f"{path} does not hold the {what} that its record describes: it was cut short, altered or removed. Copy it "
                f"anew, or {again}."
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def boundary_areas(self, record: Record) -> BoundaryAreas | None:
        """Areas near borders and inside objects, of the images and in the order of `counts`; None for a run without them.

        Args:
            record: the run's.

        Raises:
            UserError: if the file is not the one that the record describes.
        """
        if (expected := record.boundary_sha256) is None:
            return None
        arrays = self._arrays(BOUNDARY, expected, "areas near borders", _AGAIN)
        radii = tuple(int(radius) for radius in arrays["radii"])
        return BoundaryAreas(radii, Areas(*(arrays[name].astype(np.int64) for name in Areas._fields)))

    def clear(self) -> None:
        """Forget everything of an earlier start; of a folder that is a link, what it leads to.

        Raises:
            UserError: if something of it cannot be removed.
        """
        try:
            if (place := self.path.resolve()).exists():
                shutil.rmtree(place)
            if self.path.is_symlink():
                self.path.unlink()
        except OSError as error:
            raise UserError(f"{self.path} cannot be removed: {error}. Mend its permissions, or remove it yourself.") from error

    @contextmanager
    def locked(self, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
        """Hold the run, so that no second process trains it at the same time; what killed ones had half written goes.

        Args:
            on_wait: called once before waiting for another process that holds the run; None does not wait.

        Raises:
            HeldError: if another process holds it and this one is not to wait.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_file)
        try:
            lock.acquire(timeout=1)  # whoever only asks whether it is held lets go at once
        except Timeout as error:
            if on_wait is None:
                raise HeldError(
                    f"Run {self.key} is being trained by another process. Wait for it, or stop it and start again."
                ) from error
            on_wait()
            lock.acquire()
        try:
            for folder in (self.path, self.checkpoints):
                remove_abandoned(folder)
            yield
        finally:
            lock.release()

    def is_held(self) -> bool:
        """Whether a process holds the run at this moment."""
        return is_locked(self._lock_file)

    def status(self, record: Record) -> str:
        """What the record says, but that a run which nobody holds does not go on."""
        return INTERRUPTED if record.status == RUNNING and not self.is_held() else record.status

    @property
    def _lock_file(self) -> Path:
        return self.root / f".{self.key}.lock"


def find_runs(folder: Path) -> list[RunFolder]:
    """Every run or backbone in or at ``folder`` that has left a record, by key."""
    places = [path for path in (folder, *sorted(folder.glob("*"))) if (path / RECORD).is_file()]
    return [*dict.fromkeys(map(RunFolder.of, places))]


def straight(path: Path) -> Path:
    """Where a run's folder lies, if this is a link of another name, ``.`` or ``..``, which are not called by its key.

    A link that is called by the key stays what it is: the run's lock lies beside it.
    """
    if not path.is_symlink() and path.name not in ("", ".."):
        return path
    place = path.resolve()
    if path.is_symlink() and place.parent == path.parent.resolve():  # the store stays called as it was
        return path.with_name(place.name)
    return path if place.name == path.name else place


def find_finished(folders: Sequence[Path]) -> list[tuple[RunFolder, Record]]:
    """Every finished run in or at ``folders`` with its record, by folder name.

    Raises:
        UserError: see `RunFolder.record`.
    """
    found = [(run, run.record()) for folder in folders for run in find_runs(folder)]
    return [(run, record) for run, record in found if record and record.done]


class Listed(NamedTuple):
    """A run as a list of many shows it.

    Attributes:
        record: None where it cannot be read.
        damage: why it cannot; empty for a sound one.
        modified: when the record was written, in seconds since 1970.
        size: of all its files in bytes.
    """

    folder: RunFolder
    record: Record | None
    damage: str
    modified: float
    size: int


def list_runs(folder: Path) -> list[Listed]:
    """Every run or backbone in or at ``folder``, the newest first; one whose record cannot be read is listed as damaged."""
    with ThreadPoolExecutor(_READERS) as pool:
        listed = filter(None, pool.map(_listed, find_runs(folder)))
    return sorted(listed, key=lambda one: -one.modified)


def _listed(run: RunFolder) -> Listed | None:
    """None for one that another process has removed meanwhile."""
    try:
        record, damage = run.record(), ""
    except UserError as error:
        record, damage = None, str(error)
    with suppress(FileNotFoundError):
        return Listed(run, record, damage, (run.path / RECORD).stat().st_mtime, size_of(run.path))
    return None


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder, at which other processes may be."""
    size = 0
    for above, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(above, name).lstat().st_size
    return size
