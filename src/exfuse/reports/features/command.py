"""What `exfuse report features` does: look into each run, then draw and write one folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress

from exfuse.composition.reading import photographs_upright, read_split, split_of
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.split import Split, spread_evenly
from exfuse.errors import CheckpointError
from exfuse.files import write_folder
from exfuse.limits import NonNegative, NonNegativeFloat
from exfuse.palette import VOID
from exfuse.process import choose_device
from exfuse.reports.features.folder import Content, write_content
from exfuse.reports.features.looking import Looked, Looker
from exfuse.reports.features.sources import Source, as_list, find_images, find_sources, is_photograph, target_folder
from exfuse.reports.features.summary import LEGEND, name_runs, summary_tables
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.description import Option
from exfuse.store.features import FOLDER, INDEX


def show_features(
    checkpoint: str | list[str] | None,
    study_folder: str | None,
    paths_runs: str,
    image: int | str | list[int | str],
    split: Literal["train", "val"],
    statistics_images: NonNegative | None,
    statistics_band: NonNegativeFloat,
    output: str | None,
    device: str,
    data: Option | None = None,
) -> None:
    """Draw the chosen images' low-level maps before and after SEB, and summarise them over the split.

    Args:
        checkpoint, study_folder, paths_runs: whose maps, see `find_sources`.
        image: to draw, see `find_images`.
        split: whose images are counted, and meant by ids and places.
        statistics_images: over how many of them; None for all, 0 for none.
        statistics_band: see `exfuse.reports.features`.
        output: folder to write, see `target_folder`.
        device: to run models on.
        data: in the place of what the first run was trained with.

    Raises:
        CheckpointError: if a checkpoint cannot be used, has no low-level map, or scores other classes than the data name.
        DataError: if an image is unknown or the data cannot be read.
        UserError: see `find_sources`; or if the output folder holds something else, which is then left as it is.
    """
    sources = find_sources(checkpoint, study_folder, paths_runs)
    folder = target_folder(output, study_folder, FOLDER, INDEX, "feature pictures")
    where = choose_device(device)
    _, trained, classes = load_checkpoint(sources[0].checkpoint)
    counted = None
    if statistics_images != 0 or not all(map(is_photograph, as_list(image))):
        counted = read_split(data, split) if data else split_of(trained, split)
        classes = list(counted.classes)
    images = find_images(image, counted, photographs_upright(data or trained.data))
    positions = [] if counted is None else spread_evenly(len(counted), statistics_images)
    looked = []
    with Progress(transient=True) as progress:
        task = progress.add_task("Looking into models", total=len(sources) * (len(images) + len(positions)))
        for source in sources:
            looker = _looker(source, classes, counted, statistics_band, where)
            found = Looked(source.run)
            for _ in looker.look(found, images, counted, positions):
                progress.advance(task)
            looked.append(found)
        borders = {one.name: looker.borders(one) for one in images if one.mask is not None}
    content = Content(looked, images, borders, classes, counted, split, len(positions), statistics_band)
    write_folder(folder, lambda scratch: write_content(scratch, content))
    _report(content, folder, Console())


def _looker(source: Source, classes: Sequence[str], split: Split | None, band: float, device: torch.device) -> Looker:
    model, trained, known = load_checkpoint(source.checkpoint)
    if known != list(classes):
        data = split.name if split else "the first checkpoint"
        raise CheckpointError(
            f"{source.checkpoint} scores {len(known)} classes ({', '.join(known[:4])}, ...) but {data} names {len(classes)} "
            f"({', '.join(classes[:4])}, ...). Choose checkpoints and data of the same classes."
        )
    if len(model.encoder.levels) < 2:  # type: ignore[arg-type]
        raise CheckpointError(
            f"{source.checkpoint} feeds its decoder from res-5 alone: it has no low-level map. Choose a run with "
            "decoder=levels_2345."
        )
    void_ids = split.void_ids if split else (VOID,)
    return Looker(model.to(device), build_eval_transform(trained), device, len(known), void_ids, band)


def _report(content: Content, output: Path, console: Console) -> None:
    runs, rows = [one.run for one in content.looked], content.rows()
    if rows and len(runs) > 1:
        for key, name in name_runs(runs).items():
            console.print(
                f"Run {name}: {next(run.title for run in runs if run.key == key)} ({key})", markup=False, highlight=False
            )
    for level in dict.fromkeys(row.level for row in rows):
        assert content.split is not None
        title = f"{level} before and after SEB: {content.split.name}, {content.images_counted} images"
        title += "" if len(runs) > 1 else f", {runs[0].title}"
        for table in summary_tables(rows, runs, level, title):
            console.print(table)
            console.print()
    if rows:
        console.print(LEGEND, style="dim", markup=False, highlight=False)
    pictures = [str(output / image.folder / "features.png") for image in content.images]
    console.print(f"Pictures and numbers: {output}  ({', '.join(pictures)})", soft_wrap=True, markup=False, highlight=False)
