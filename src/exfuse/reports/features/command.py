"""What `exfuse report features` does: look into each run, then draw and write one folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec.structs import replace

from exfuse.analysis.figures import style
from exfuse.composition.reading import bands_of, photographs_upright, read_split, split_of
from exfuse.data.bands import Bands, as_rgb
from exfuse.data.pixels import read_mask
from exfuse.data.subsets import spread_evenly
from exfuse.devices import choose_device
from exfuse.files import write_folder
from exfuse.limits import Device, NonNegative, NonNegativeFloat
from exfuse.palette import VOID
from exfuse.reports.features.drawing import Backdrop, Shown, draw_level, draw_overview, level_view
from exfuse.reports.features.sources import Chosen, as_list, find_images, find_sources, is_photograph, target_folder
from exfuse.reports.features.statistics import Borders, find_borders, scale_to
from exfuse.reports.features.summary import LEGEND, Collected, Numbers, name_runs, summary_tables, write_per_image
from exfuse.reports.features.taps import load_sources, tap
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store import features as store
from exfuse.store.checked import write_rows
from exfuse.store.description import Option
from exfuse.terminal import Console, Progress

_MOST_RUNS = 6  # side by side in one overview; each run's levels have pictures of their own


@dataclass
class Looked:
    """What one run showed.

    Attributes:
        shown: by the image's name, what is drawn.
        own: by the image's name and the level, the statistics of that image alone; of images with a truth.
        collected: by level, the statistics over the split.
    """

    run: store.FeatureRun
    shown: dict[str, Shown] = field(default_factory=dict)
    own: dict[tuple[str, str], dict[str, Numbers]] = field(default_factory=dict)
    collected: dict[str, Collected] = field(default_factory=dict)

    def rows(self) -> list[store.SummaryRow]:
        """The summary of every level and statistic."""
        return [row for level, found in self.collected.items() for row in found.rows(self.run, level)]


def show_features(
    checkpoint: str | list[str] | None,
    study_folder: str | None,
    paths_runs: str,
    image: int | str | list[int | str],
    split: Literal["train", "val"],
    statistics_images: NonNegative | None,
    statistics_band: NonNegativeFloat,
    output: str | None,
    device: Device,
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
        CheckpointError: if a checkpoint cannot be used, has no low-level map (a study's are left out while others have one), or
            scores other classes than the data name.
        DataError: if an image is unknown or the data cannot be read.
        UserError: see `find_sources`; or if the output folder holds something else, which is then left as it is.
    """
    sources = find_sources(checkpoint, study_folder, paths_runs)
    folder, of = target_folder(output, study_folder, store.FOLDER, sources)
    where = choose_device(device)
    _, trained, classes = load_checkpoint(sources[0].checkpoint)
    counted = None
    if statistics_images != 0 or not all(map(is_photograph, as_list(image))):
        counted = read_split(data, split) if data else split_of(trained, split)
        classes = list(counted.classes)
    void_ids, own_ids = (counted.void_ids, counted.ids) if counted else ((VOID,), ())
    images, bands = find_images(image, counted, photographs_upright(data or trained.data)), bands_of(trained.data)
    items = [counted.items[place] for place in spread_evenly(len(counted), statistics_images)] if counted else []
    every = [*images, *(Chosen(item.id, item.image, item.mask, item.upright) for item in items)]
    looked, borders = list[Looked](), dict[str, Borders]()
    console = Console()
    with Progress(transient=True, console=console) as progress:
        task = progress.add_task("Looking into models", total=len(sources) * len(every))
        for source, model, transform in load_sources(sources, classes, counted, where, bool(study_folder), console):
            looked.append(found := Looked(source.run))
            for place, one in enumerate(every):
                pixels, drawn = bands.read(one.image, one.upright), place < len(images)
                tapped, ids = tap(model, transform(pixels).to(where), pixels.shape[:2])  # type: ignore[arg-type]
                levels = [level.cpu() for level in tapped]
                if drawn:
                    prediction = ids.cpu().numpy().astype(np.uint8)
                    found.shown[one.name] = Shown(source.run.title, prediction, [level_view(level) for level in levels])
                if one.mask is not None:
                    truth = find_borders(read_mask(one.mask, len(classes), void_ids, own_ids), statistics_band)
                    for level in levels:
                        over = Collected(len(classes))
                        over = over if drawn else found.collected.setdefault(level.name, over)
                        own = over.add(one.name, level, scale_to(truth, (level.before.shape[1], level.before.shape[2])))
                        if drawn:
                            found.own[one.name, level.name], borders[one.name] = own, truth
                progress.advance(task)
    rows = [row for found in looked for row in found.rows()]
    index = store.FeatureIndex(
        data=counted.name if counted and rows else None,
        split=split if rows else None,
        band=statistics_band,
        images=len(items),
        runs=tuple(found.run for found in looked),
        overviews=(),
        pictures=(),
        summary=tuple(rows),
    )
    write_folder(folder, lambda scratch: _write(scratch, looked, images, bands, borders, classes, index), True, of)
    _report(index, [str(folder / image.folder / "features.png") for image in images], folder, console)


def _write(
    folder: Path,
    looked: Sequence[Looked],
    images: Sequence[Chosen],
    bands: Bands,
    borders: Mapping[str, Borders],
    classes: Sequence[str],
    index: store.FeatureIndex,
) -> None:
    """Write pictures, tables and, last, the index into ``folder``."""
    overviews, pictures = [], []
    for image in images:
        pixels = as_rgb(bands.read(image.image, image.upright))
        scene = Backdrop(image.name, pixels, borders.get(image.name), classes)
        shown = [one.shown[image.name] for one in looked[:_MOST_RUNS]]
        figure = draw_overview(scene, shown, left_out=len(looked) - len(shown))
        written = style.save(figure, folder / image.folder / "features.svg")
        overviews.append(store.FeatureOverview(image.name, tuple(path.relative_to(folder).as_posix() for path in written)))
        for one in looked:
            run = one.run
            for level in one.shown[image.name].levels:
                path = folder / image.folder / f"{run.key}_{level.name}.png"
                style.save(draw_level(scene, run.title, level), path, suffixes=(".png",))
                own, name = one.own.get((image.name, level.name), {}), path.relative_to(folder).as_posix()
                known = (image.name, run.key, run.row, run.seed, level.name, level.kind, name)
                pictures.append(store.FeaturePicture(*known, own))
    write_rows(folder / "features.csv", store.SummaryRow, index.summary)
    collected = [(one.run, level, found) for one in looked for level, found in one.collected.items()]
    write_per_image(folder / "per_image.csv", collected)
    replace(index, folder=folder, overviews=tuple(overviews), pictures=tuple(pictures)).write()


def _report(index: store.FeatureIndex, pictures: Sequence[str], output: Path, console: Console) -> None:
    runs, rows = index.runs, index.summary
    if rows and len(runs) > 1:
        for run, name in zip(runs, name_runs(runs).values(), strict=True):
            console.print(f"Run {name}: {run.title} ({run.key})", highlight=False)
    for level in dict.fromkeys(row.level for row in rows):
        title = f"{level} before and after SEB: {index.data}, {index.images} images"
        title += "" if len(runs) > 1 else f", {runs[0].title}"
        for table in summary_tables(rows, runs, level, title):
            console.print(table)
            console.print()
    if rows:
        console.print(LEGEND, style="dim", highlight=False)
    console.print(f"Pictures and numbers: {output}  ({', '.join(pictures)})", soft_wrap=True, highlight=False)
