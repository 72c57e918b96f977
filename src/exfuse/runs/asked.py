"""What commands ask of the runs and files that are named to them before their work, and torch with it, is loaded.

A function for each verb, called with those of the verb's arguments that it names; see `exfuse.cli.verbs`.
"""

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from exfuse.config.own_code import changed_code
from exfuse.errors import CheckpointError, DataError, UserError, complain, some
from exfuse.files import check_outputs, seen_from
from exfuse.store.consistency import unshared
from exfuse.store.folder import RunFolder, find_finished, find_runs
from exfuse.store.record import RECORD, Record
from exfuse.store.seal import check_sealed, last_of
from exfuse.store.study_reading import load_study


def weights(run: str) -> None:
    """Hold the weights of a run's folder or checkpoint against what they should be; say so where the run is not finished.

    Raises:
        CheckpointError: see `check_sealed`.
    """
    path = last_of(Path(run))
    check_sealed(path)
    say_if_unfinished(path)


def say_if_unfinished(path: Path) -> None:
    """Note on standard error that a run's weights, in its folder or a checkpoint, are not those of its end."""
    folder = RunFolder.of(path)
    record = folder.record()
    if record is not None and not record.done:
        status = folder.status(record)
        print(f"Note: run {folder.key} is not finished ({status}): these are weights of an earlier epoch.", file=sys.stderr)


def warn_of_code(code: Mapping[str, str], of: str) -> None:
    """Say on standard error which code outside this package is no longer that of a run, backbone or published model.

    Args:
        code: that it was trained with, see `changed_code`.
        of: what people call it.
    """
    if changed := changed_code(code):
        complain(f"{changed} {of} was trained: it may calculate something else now.", "Warning")


def evaluate(checkpoint: str, output: str | None) -> None:
    """See `weights`; the folder of the scores is held against what lies there."""
    weights(checkpoint)
    if output:
        check_outputs(scores_of(Path(output)))


def scores_of(folder: Path) -> list[Path]:
    """The files that an evaluation writes."""
    return [folder / name for name in ("confusion.npz", "boundary.npz", "per_class.csv", "predictions.png", "scores.json")]


def predict(run: str, images: list[str], output: str | None) -> None:
    """See `weights`; every image is there, and no mask takes its or another file's place.

    Raises:
        DataError: if an image is missing.
        UserError: see `check_outputs`.
    """
    paths = [Path(image) for image in images]
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"{missing[0]} is a folder. Name its images: {missing[0]}/*"
            if missing[0].is_dir()
            else f"No image {missing[0]}. Check the path."
        )
    folder = masks_folder(run, output)
    check_outputs(masks_of(paths, folder), paths, of=masks_made_of(run, paths, folder))
    weights(run)


def masks_folder(run: str, output: str | None) -> Path:
    """Where a prediction's files go: one run's apart from another's, unless somebody says where."""
    return Path(output or f"outputs/predictions/{RunFolder.name_of(Path(run))}")


def masks_of(images: Iterable[Path], folder: Path) -> list[Path]:
    """The files that a prediction writes."""
    return [folder / f"{path.stem}{ending}" for path in images for ending in (".png", "_overlay.png")]


def masks_made_of(run: str | Path, images: Iterable[Path], folder: Path) -> list[str]:
    """What each of the files that a prediction writes is made from: a later one of another run or image is another."""
    key = RunFolder.identity_of(Path(run))
    return [f"{seen_from(folder / 'x', path)} by run {key}" for path in images for _ in (".png", "_overlay.png")]


def finished(run: str) -> Record:
    """The record of the finished run in a folder.

    Raises:
        CheckpointError: if there is none.
    """
    if not Path(run).is_dir():
        raise CheckpointError(f"No run's folder {run}. Give outputs/runs/KEY of a finished run.")
    folder = RunFolder.of(Path(run))
    record = folder.record()
    if record is None or record.pretraining:
        raise CheckpointError(f"{run} holds no record of a run. Give outputs/runs/KEY of a finished run.")
    if not record.done:
        raise CheckpointError(f"Run {record.key} is not finished ({folder.status(record)}): train it to its end first.")
    return record


def compared(runs: list[str]) -> list[tuple[RunFolder, Record]]:
    """Finished runs in or at folders, by label and seed.

    Raises:
        UserError: if there is none, or they were not scored on the same images.
    """
    folders = [Path(run) for run in runs]
    for run in [find_runs(folder)[0] for folder in folders if (folder / RECORD).is_file()]:  # named itself
        if (record := run.record()) and not record.done:
            raise UserError(f"{record.title}, seed {record.seed}, in {run.path} has not finished: train it to its end first.")
    found = find_finished(folders)
    if not found:
        raise UserError(f"No finished run in {', '.join(runs)}. Train one: exfuse train +ablation=baseline")
    _refuse_imported(run for run, _ in found)
    if unscored := [run for run, record in found if record.scored is None]:
        raise UserError(f"{unscored[0].path} is a backbone, which has no scores to compare. Name runs of exfuse train.")
    for (run, record), (other, _) in itertools.combinations(found, 2):
        if run.key == other.key:
            where = f"{run.path} and {other.path}"
            raise UserError(f"{where} are the same run: {record.title}, seed {record.seed}. Name one of them.")
    if len({record.manifests["val"] for _, record in found}) > 1:
        names = sorted({record.data for _, record in found})
        read = [one for one in unshared([record for _, record in found]) if one.startswith("data.")]
        otherwise = f", which were read otherwise: {some(read)}" if read else ""
        raise UserError(
            f"These runs were scored on different images ({', '.join(names)}{otherwise}). Name runs of the same images."
        )
    return sorted(found, key=lambda run: (run[1].label != "baseline", run[1].label, run[1].seed))


def scored(runs: list[str]) -> list[RunFolder]:
    """Finished runs in or at folders.

    Raises:
        UserError: if a folder holds none.
    """
    found = []
    for folder in runs:
        there = [run for run in find_runs(Path(folder)) if run.finished()]
        if not there:
            raise UserError(f"{folder} holds no finished run: expected a run's folder, outputs/runs/KEY, or a folder of them.")
        _refuse_imported(there)
        found += there
    return found


def _refuse_imported(runs: Iterable[RunFolder]) -> None:
    """Runs of other code have left scores here and no weights.

    Raises:
        UserError: naming the first.
    """
    for run in runs:
        if (record := run.record()) and record.imported:
            raise UserError(f"{run.path} was imported from other code: there are no weights here, which this needs.")


def looked_into(checkpoint: str | Sequence[str] | None) -> None:
    """See `weights`, for each run that is named."""
    for run in [checkpoint] if isinstance(checkpoint, str) else checkpoint or ():
        weights(str(run))


def study(study_folder: str) -> None:
    """A study can be read, see `load_study`, and its models are here to be measured.

    Raises:
        UserError: if other code made its runs.
    """
    if load_study(Path(study_folder)).imported:
        raise UserError(f"{study_folder} was imported from other code: there are no models here to measure.")
