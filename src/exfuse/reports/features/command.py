"""What `exfuse report features` does: look into each run, then draw and write one folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
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
from exfuse.reports.features.sources import Asked, Source, as_list, find_images, find_sources, is_photograph
from exfuse.reports.features.summary import LEGEND, name_runs, summary_tables
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.features import FOLDER, INDEX


class Statistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Over how many images of the split, and how wide the band on either side of a border is."""

    images: NonNegative | None
    band: NonNegativeFloat


class Features(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What conf/report_features.yaml asks for."""

    image: int | str | list[int | str]
    split: Literal["train", "val"]
    statistics: Statistics


def show_features(asked: Features) -> None:
    """Draw the chosen images' low-level maps before and after SEB, and summarise them over the split.

    Raises:
        CheckpointError: if a checkpoint cannot be used, has no low-level map, or scores other classes than the data name.
        DataError: if an image is unknown or the data cannot be read.
        UserError: see `find_sources`; or if the output folder holds something else, which is then left as it is.
    """
    sources = find_sources(asked)
    output = asked.target(FOLDER, INDEX, "feature pictures")
    device = choose_device(asked.device)
    _, trained, classes = load_checkpoint(sources[0].checkpoint)
    split = None
    if asked.statistics.images != 0 or not all(map(is_photograph, as_list(asked.image))):
        split = read_split(asked.data, asked.split) if asked.data else split_of(trained, asked.split)
        classes = list(split.classes)
    images = find_images(asked.image, split, photographs_upright(asked.data or trained.data))
    positions = [] if split is None else spread_evenly(len(split), asked.statistics.images)
    looked = []
    with Progress(transient=True) as progress:
        task = progress.add_task("Looking into models", total=len(sources) * (len(images) + len(positions)))
        for source in sources:
            looker = _looker(source, classes, split, asked, device)
            found = Looked(source.run)
            for _ in looker.look(found, images, split, positions):
                progress.advance(task)
            looked.append(found)
        borders = {image.name: looker.borders(image) for image in images if image.mask is not None}
    content = Content(looked, images, borders, classes, split, asked.split, len(positions), asked.statistics.band)
    write_folder(output, lambda scratch: write_content(scratch, content))
    _report(content, output, Console())


def _looker(source: Source, classes: Sequence[str], split: Split | None, asked: Features, device: torch.device) -> Looker:
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
    band = asked.statistics.band
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
