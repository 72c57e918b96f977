"""Score finished runs again with the present code, after a measure was mended; what training left stays as it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from rich.console import Console

from exfuse.composition.reading import read_split
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.dataset import SegmentationDataset
from exfuse.errors import DataError, UserError
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.environment import describe_environment
from exfuse.runs.outcome import report_outcome
from exfuse.store.folder import RunFolder, find_runs


def rescore(folders: Sequence[Path], device: torch.device, workers: int) -> None:
    """Replace counts, areas near borders, scores and record of each run; the record says under ``scored_by`` with what.

    Args:
        folders: of runs, or of stores of runs.
        device: where to score.
        workers: loader processes.

    Raises:
        UserError: if a folder holds no finished run.
        DataError: if a run's val split is another than the one it was scored on.
    """
    console = Console()
    runs = [run for folder in folders for run in _runs(folder)]
    for number, run in enumerate(runs, 1):
        changed = _rescore(run, device, workers)
        console.print(f"{number} of {len(runs)}: {run.path}: {changed}", soft_wrap=True)


def _runs(folder: Path) -> list[RunFolder]:
    runs = [run for run in find_runs(folder) if run.finished()]
    if not runs:
        raise UserError(f"{folder} holds no finished run: expected a run's folder, outputs/runs/KEY, or a folder of them.")
    return runs


def _rescore(run: RunFolder, device: torch.device, workers: int) -> str:
    with run.locked():
        record = run.finished()
        assert record is not None
        before, _ = run.counts(record)
        model, trained, _ = load_checkpoint(run.path)
        split = read_split(trained, "val")
        if split.manifest() != record.manifests["val"]:
            raise DataError(f"{run.path}: {split.name} val is not what this run was scored on. Train the run anew.")
        if trained.runtime.channels_last:  # the layout in which its training scored it
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        origin = replace(record, scored_by=describe_environment(device))
        dataset = SegmentationDataset(split, build_eval_transform(trained))
        record = report_outcome(run, origin, model, dataset, device, workers)
        pixels = int(np.abs(run.counts(record)[0] - before).sum()) // 2
    return f"{100 * record.scores.miou:.2f} % mIoU, {pixels or 'no'} pixels decided otherwise than before"
