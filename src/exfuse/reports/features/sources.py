"""Which runs and which images a command means, by key, id, place or path."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from exfuse.data.split import Split
from exfuse.errors import ConfigError, DataError, UserError, repeated
from exfuse.files import check_folder, seen_from
from exfuse.store.consistency import find_deviations
from exfuse.store.features import FeatureRun
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from exfuse.store.study_reading import load_study


@dataclass(frozen=True)
class Source:
    """A run to look into and its checkpoint."""

    run: FeatureRun
    checkpoint: Path


@dataclass(frozen=True)
class Chosen:
    """An image to draw; ``mask`` is None for a photograph from elsewhere, ``upright`` is whether it is turned."""

    name: str
    image: Path
    mask: Path | None
    upright: bool = True

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r"[^\w.-]+", "_", self.name).strip(".") or "image"


def target_folder(output: str | None, study: str | None, name: str, sources: Sequence[Source]) -> tuple[Path, str]:
    """The folder that a report writes, and where somebody has chosen it what it is of: a study, which may grow, or runs.

    Args:
        output: as the user says; None for the folder ``name`` inside the study's or outputs/.
        study: the study's folder, if it is about one.
        name: of the folder.
        sources: the runs.

    Raises:
        UserError: if replacing it would remove what is not this command's, or of other runs.
    """
    folder = Path(output or Path(study or "outputs") / name)
    runs = f"{'run' if len(sources) == 1 else 'runs'} {', '.join(sorted(source.run.key[:8] for source in sources))}"
    of = f"{name} of " + (f"study {seen_from(folder, Path(study))}" if study else runs)
    check_folder(folder, of if output else "")
    return folder, of if output else ""


def find_sources(checkpoint: str | list[str] | None, study_folder: str | None, runs: str) -> list[Source]:
    """The runs that ``checkpoint``, or else the study, names; a study's by seed, then by row.

    Args:
        checkpoint: runs' folders or .ckpt files.
        study_folder: a study's folder.
        runs: the folder of its runs.

    Raises:
        ConfigError: if neither is set.
        UserError: if a record is refused, a run is named twice, or no run of the study has a checkpoint in ``runs``.
    """
    study = load_study(Path(study_folder)) if study_folder else None
    rows = {} if study is None else {run.folder.key: row.name for row in study.rows for run in row.runs.values() if run.done}
    if checkpoint is not None:
        paths = [Path(str(path)) for path in as_list(checkpoint)]
    elif study is not None:
        cells = sorted((run.seed, place, run.folder.key) for place, row in enumerate(study.rows) for run in row.runs.values())
        folders = [RunFolder(Path(runs), key) for _, _, key in cells if key in rows]
        paths = [folder.path for folder in folders if folder.last.is_file()]
        if not paths:
            raise UserError(
                f"No run of {study_folder} has a checkpoint in {runs}: records alone hold no weights. Set paths.runs to "
                "the folder of its runs, or run its sweep again."
            )
    else:
        raise ConfigError("checkpoint is not set: add checkpoint=FOLDER with a run's folder, or study=FOLDER with a study's.")
    sources = [Source(_describe(path, rows), path) for path in dict.fromkeys(paths)]
    if twice := repeated(source.run.key for source in sources):
        raise UserError(f"Two checkpoints are of run {twice[0]}: its pictures would overwrite one another. Name one of them.")
    return _told_apart(sources)


def _told_apart(sources: Sequence[Source]) -> list[Source]:
    """The sources; those that one name stands for but that are no seeds of one setting are called by their keys as well."""
    named: dict[str, list[tuple[str, int, Record]]] = {}
    for one in sources:
        if (record := _record_of(one.checkpoint)) is not None:
            named.setdefault(one.run.row, []).append((one.run.row, one.run.seed, record))
    mixed = {
        row
        for row, runs in named.items()
        if repeated(seed for _, seed, _ in runs) or {one.setting for one in find_deviations(runs)} - {"commit", "threads"}
    }
    return [
        replace(one, run=msgspec.structs.replace(one.run, row=f"{one.run.row} {one.run.key[:8]}"))
        if one.run.row in mixed
        else one
        for one in sources
    ]


def _record_of(path: Path) -> Record | None:
    return RunFolder.of(path).record() if path.exists() else None


def find_images(asked: object, split: Split | None, upright: bool = True) -> list[Chosen]:
    """The images that ``image`` names.

    Args:
        asked: one id, place or path, or a list of such.
        split: whose ids and places are meant; None if only paths are.
        upright: whether photographs from elsewhere are turned as their cameras say.

    Raises:
        DataError: if there is no such image, or two have one name.
    """
    chosen = [_find_image(one, split, upright) for one in as_list(asked)]
    if not chosen:
        raise DataError("image=[] names no image. Give an id, a place in the split's list, or a path.")
    if twice := repeated(image.folder for image in chosen):
        raise DataError(
            f"Two of the images are called {twice[0]}: their pictures would overwrite one another. Name one of them."
        )
    return chosen


def is_photograph(asked: object) -> bool:
    """Whether what was asked for is a file, which needs no split."""
    return isinstance(asked, str) and Path(asked).is_file()


def as_list(value: object) -> list[object]:
    """A single value as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _describe(path: Path, rows: dict[str, str]) -> FeatureRun:
    key, record = RunFolder.of(path).key, _record_of(path)
    if record is None:  # that it is no run, or no checkpoint, is for whoever loads it to say
        return FeatureRun(RunFolder.name_of(path), path.stem, 0, "unknown")
    row = rows.get(key, record.label or key)
    return FeatureRun(key, row, record.seed, record.options.get("seb", "unknown"))


def _find_image(asked: object, split: Split | None, upright: bool) -> Chosen:
    if is_photograph(asked):
        path = Path(str(asked))
        return Chosen(path.stem, path, None, upright)
    if split is None:
        raise DataError(f"image={asked}: there is no such file. Check the path.")
    by_id = {item.id: item for item in split.items}
    item = by_id.get(str(asked))
    if item is None and isinstance(asked, int):
        # the command line reads 2007_000129 as the number 2007000129
        numbers = [id for id in by_id if "_" in id and id.replace("_", "") == str(asked)]
        item = by_id[numbers[0]] if len(numbers) == 1 else None
        if item is None and 0 <= asked < len(split):
            item = split.items[asked]
    if item is None:
        raise DataError(_unknown(asked, split))
    return Chosen(item.id, item.image, item.mask, item.upright)


def _unknown(asked: object, split: Split) -> str:
    ids: Sequence[str] = [item.id for item in split.items]
    near = difflib.get_close_matches(str(asked), ids, n=3) or list(ids[:3])
    return (
        f"image={asked}: {split.name} has no image of this id, and there is no such file. Expected an id such as "
        f"{', '.join(near)}, a place from 0 to {len(ids) - 1}, or the path of a photograph."
    )
