"""Finished runs side by side: a table per class and a picture."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from exfuse.analysis.console import comparison_table, mistakes_table
from exfuse.analysis.pictures import save_comparison
from exfuse.composition.reading import split_of
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.split import spread_evenly
from exfuse.errors import UserError
from exfuse.files import outputs
from exfuse.limits import Positive
from exfuse.process import choose_device
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.description import RunDescription, from_plain
from exfuse.store.folder import RunFolder, find_finished, find_runs as runs_at
from exfuse.store.record import Record
from exfuse.tasks.prediction import PredictedImage, predict_split
from exfuse.terminal import Console


def compare(runs: list[str], picture: str | None, images: Positive) -> None:
    """Print a table of the finished runs in the folders ``runs`` and draw ``images`` validation images with their predictions.

    Raises:
        UserError: if no finished run is there, or the runs were not scored on the same images.
    """
    found = find_runs([Path(run) for run in runs])
    records = [record for _, record in found]
    path = Path(picture or Path(runs[0]) / "comparison.png")
    console = Console()
    data = records[0].data
    console.print(comparison_table(records, f"{data} val, {records[0].scores.images} images, IoU %"))
    console.print(mistakes_table(records))
    with outputs([path]) if picture else nullcontext():  # what lies in a run's folder is written here
        _draw(found, path, images)
    console.print(f"Predictions side by side: {path}")


def find_runs(folders: Sequence[Path]) -> list[tuple[RunFolder, Record]]:
    """Finished runs in or at ``folders``, by label and seed.

    Raises:
        UserError: if there is none, or they were not scored on the same images.
    """
    for run in [run for folder in folders for run in runs_at(folder) if run.path == folder]:  # named itself
        if (record := run.record()) and not record.done:
            raise UserError(f"{record.title}, seed {record.seed}, in {run.path} has not finished: it has no scores to compare.")
    runs = find_finished(folders)
    if not runs:
        raise UserError(f"No finished run in {', '.join(map(str, folders))}. Train one: exfuse train +ablation=baseline")
    if len({record.manifests["val"] for _, record in runs}) > 1:
        names = sorted({record.data for _, record in runs})
        raise UserError(f"These runs were scored on different images ({', '.join(names)}). Name the runs to compare.")
    return sorted(runs, key=lambda run: (run[1].label != "baseline", run[1].label, run[1].seed))


def _draw(runs: list[tuple[RunFolder, Record]], picture: Path, images: int) -> None:
    split = split_of(from_plain(runs[0][1].config, RunDescription, runs[0][0].path), "val")
    predicted: dict[str, list[PredictedImage]] = {}
    for folder, record in runs:
        model, trained, _ = load_checkpoint(folder.path)
        dataset = SegmentationDataset(split, build_eval_transform(trained))
        name = f"{record.title.replace('+', chr(10))}, seed {record.seed}"
        name += f"\n{folder.key[:8]}" if name in predicted else ""
        predicted[name] = [*predict_split(model, dataset, spread_evenly(len(split), images), choose_device("cpu"))]
    shown = next(iter(predicted.values()))
    drawn = {name: [one.prediction for one in found] for name, found in predicted.items()}
    save_comparison(picture, [one.image for one in shown], [one.truth for one in shown], drawn, split.classes)
