"""Finished runs side by side: a table per class and a picture."""

from contextlib import nullcontext
from pathlib import Path

from exfuse.analysis.console import columns_of, comparison_table, mistakes_table
from exfuse.analysis.pictures import save_comparison
from exfuse.composition.reading import split_scored_on
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.subsets import spread_evenly
from exfuse.devices import choose_device
from exfuse.files import outputs
from exfuse.limits import Positive
from exfuse.runs.asked import compared
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.description import RunDescription, from_plain
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from exfuse.tasks.prediction import PredictedImage, predict_split
from exfuse.terminal import Console


def compare(runs: list[str], picture: str | None, images: Positive) -> None:
    """Print a table of the finished runs in the folders ``runs`` and draw ``images`` validation images with their predictions.

    Raises:
        UserError: if no finished run is there, or the runs were not scored on the same images.
    """
    found = compared(runs)
    records = [record for _, record in found]
    path = Path(picture or Path(runs[0]) / "comparison.png")
    console = Console()
    data = records[0].data
    console.print(comparison_table(records, f"{data} val, {records[0].scores.images} images, IoU %"))
    console.print(mistakes_table(records))
    of_run = not picture and any(Path(runs[0]).resolve() == run.path.resolve() for run, _ in found)
    of = ", ".join(sorted(run.key for run, _ in found))
    with nullcontext() if of_run else outputs([path], of=[f"runs {of}"]):  # what lies in a run's folder is written here
        _draw(found, path, images)
    console.print(f"Predictions side by side: {path}")


def _draw(runs: list[tuple[RunFolder, Record]], picture: Path, images: int) -> None:
    first, record = runs[0]
    split = split_scored_on(from_plain(record.config, RunDescription, first.path), record.manifests["val"], first.path)
    predicted: dict[str, list[PredictedImage]] = {}
    for (folder, _), name in zip(runs, columns_of([record for _, record in runs]), strict=True):
        model, trained, _ = load_checkpoint(folder.path)
        dataset = SegmentationDataset(split, build_eval_transform(trained))
        predicted[name] = [*predict_split(model, dataset, spread_evenly(len(split), images), choose_device("cpu"))]
    shown = next(iter(predicted.values()))
    drawn = {name: [one.prediction for one in found] for name, found in predicted.items()}
    save_comparison(picture, [one.image for one in shown], [one.truth for one in shown], drawn, split.classes)
