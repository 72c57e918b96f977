"""What a page shows beside scores, taken over from the folders of the runs: training curves and examples."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exfuse.data.subsets import spread_evenly
from exfuse.files import write_folder
from exfuse.store.description import Option
from exfuse.store.examples import FOLDER, Examples, load_examples
from exfuse.store.folder import RunFolder
from exfuse.store.history import HISTORY, merge_logs, write_history
from exfuse.store.record import Record
from exfuse.store.seal import last_of
from exfuse.store.study import Study

PUBLISHED = "experiments"  # name of the folder whose studies are meant for others


@dataclass(frozen=True)
class Wish:
    """Which examples are wanted: how many images, their longer side in pixels at most, the device to predict on."""

    images: int
    long_side: int
    device: str
    data: Option | None = None  # in place of the runs' own


def gather_histories(study: Study, runs: Path) -> int:
    """Write ``records/KEY/history.csv`` of every run of the study whose folder lies in ``runs``; how many are new.

    Raises:
        UserError: if a log cannot be read.
    """
    changed = 0
    for row in study.rows:
        for run in row.runs.values():
            if run.record is None or not is_same_training(RunFolder(runs, run.folder.key), run.record):
                continue
            if history := merge_logs(runs / run.folder.key):
                changed += write_history(run.folder.path / HISTORY, history)
    return changed


def is_same_training(folder: RunFolder, record: Record) -> bool:
    """Whether a run's folder is there and holds the training that a study's record tells of, not a later one."""
    own = folder.record() if folder.key else None
    return own is not None and (own.status, own.confusion_sha256) == (record.status, record.confusion_sha256)


def is_for_others(folder: Path) -> bool:
    """Whether a study's folder is meant for others to read."""
    return PUBLISHED in folder.resolve().parts


def examples_folder(study: Study, beside: Path, word: str) -> Path:
    """Where examples are gathered: with the study's records, or for a published study beside the page.

    Args:
        study: whose examples.
        beside: folder of this machine alone, for images that may not be published.
        word: "publish" if the user says that they may.
    """
    return study.folder / FOLDER if word == "publish" or not is_for_others(study.folder) else beside / FOLDER


def find_examples(study: Study, beside: Path) -> Examples | None:
    """The examples of a study, of its own folder before those of this machine alone.

    Raises:
        UserError: see `load_examples`.
    """
    return load_examples(study.folder / FOLDER) or load_examples(beside / FOLDER)


def gather_examples(study: Study, runs: Path, folder: Path, beside: Path, wish: Wish) -> dict[str, str]:
    """Predict the example images with every finished run of the study that is not in ``folder`` yet.

    Args:
        study: whose runs.
        runs: folder of the runs with their checkpoints.
        folder: of the examples.
        beside: where an earlier gathering may have left them; they are copied, not predicted again.
        wish: which.

    Returns:
        Why a run was left out, by its key; a run without a checkpoint in ``runs`` is left out without a word.

    Raises:
        UserError: if what is in ``folder`` cannot be read.
    """
    manifest, records = _scored_alike(study)
    if not records:
        return {}
    _take_over(beside / FOLDER, folder)
    there = load_examples(folder)
    anew = there is not None and not _fits(there, manifest, records, wish)
    if anew:
        there = None
    wanted = {key: record for key, record in records.items() if there is None or not there.holds(key, record)}
    wanted = {key: record for key, record in wanted.items() if last_of(runs / key).is_file()}
    others = [key for key, record in wanted.items() if not is_same_training(RunFolder(runs, key), record)]
    reasons = dict.fromkeys(others, "its folder holds another training than the record")
    wanted = {key: record for key, record in wanted.items() if key not in reasons}
    if not wanted:
        kept = f"no checkpoint in {runs}; the pictures of before are kept, though others were asked for"
        return dict.fromkeys(records, kept) | reasons if anew else reasons

    from exfuse.reports.page.predicting import add_predictions  # torch, only where there is something to predict

    if not anew:
        return reasons | add_predictions(wanted, manifest, runs, folder, there, wish)

    def write(scratch: Path) -> None:
        reasons.update(add_predictions(wanted, manifest, runs, scratch, None, wish))
        if reasons.keys() >= wanted.keys():
            raise _NothingPredictedError

    with contextlib.suppress(_NothingPredictedError):  # what was gathered before stays
        write_folder(folder, write)
    return reasons


class _NothingPredictedError(Exception):
    pass


def _scored_alike(study: Study) -> tuple[str, dict[str, Record]]:
    """The val manifest of most finished runs, and those runs' records by key."""
    done = [(run.folder.key, run.done) for row in study.rows for run in row.runs.values() if run.done]
    if not done:
        return "", {}
    manifest = Counter(record.manifests["val"] for _, record in done).most_common(1)[0][0]
    return manifest, {key: record for key, record in done if record.manifests["val"] == manifest}


def _take_over(source: Path, target: Path) -> None:
    """Copy what an earlier gathering left beside the page, where the study itself has nothing yet."""
    if source != target and (source / "index.json").is_file() and not (target / "index.json").is_file():
        shutil.copytree(source, target, dirs_exist_ok=True)


def _fits(there: Examples, manifest: str, records: Mapping[str, Record], wish: Wish) -> bool:
    """Whether the examples that are there are the ones wanted, as far as it can be told without the data."""
    total = next(iter(records.values())).images["val"]
    names = [image_name(position) for position in spread_evenly(total, wish.images)]
    same = (there.manifest, there.long_side) == (manifest, wish.long_side)
    return same and [image.name for image in there.images] == names


def image_name(position: int) -> str:
    """Stem of an image's files, from its position in the split."""
    return f"{position:05d}"
