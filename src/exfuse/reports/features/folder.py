"""The files of one folder of feature pictures; `exfuse.store.features` describes them and reads them back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exfuse.analysis.figures import style
from exfuse.data.pixels import read_image
from exfuse.data.split import Split
from exfuse.reports.features.drawing import Scene, draw_level, draw_overview
from exfuse.reports.features.looking import Looked
from exfuse.reports.features.regions import Borders
from exfuse.reports.features.sources import Chosen
from exfuse.reports.features.summary import write_per_image
from exfuse.store.checked import write_rows
from exfuse.store.features import FeatureIndex, FeatureOverview, FeaturePicture, SummaryRow, write_features

_MOST_RUNS = 6  # side by side in one overview; each run's levels have pictures of their own


@dataclass(frozen=True)
class Content:
    """All that a folder holds.

    Attributes:
        looked: one entry a run.
        borders: by the image's name, of images with a truth.
        classes: names of the ids.
        split, split_name: of the statistics; None without them.
        images_counted: that the statistics are over.
    """

    looked: Sequence[Looked]
    images: Sequence[Chosen]
    borders: Mapping[str, Borders]
    classes: Sequence[str]
    split: Split | None
    split_name: str
    images_counted: int
    band: float

    def rows(self) -> list[SummaryRow]:
        """The summary of every run, level and statistic."""
        return [row for one in self.looked for level, found in one.collected.items() for row in found.rows(one.run, level)]


def write_content(folder: Path, content: Content) -> None:
    """Write pictures, tables and, last, the index into ``folder``."""
    overviews, pictures = [], []
    for image in content.images:
        scene = Scene(image.name, read_image(image.image, image.upright), content.borders.get(image.name), content.classes)
        overviews.append(_write_overview(folder, image, scene, content.looked))
        pictures += _write_levels(folder, image, scene, content.looked)
    rows = content.rows()
    write_rows(folder / "features.csv", SummaryRow, rows)
    collected = [(one.run, level, found) for one in content.looked for level, found in one.collected.items()]
    write_per_image(folder / "per_image.csv", collected)
    split = content.split if rows else None
    index = FeatureIndex(
        data=split.name if split else None,
        split=content.split_name if split else None,
        band=content.band,
        images=content.images_counted,
        runs=tuple(one.run for one in content.looked),
        overviews=tuple(overviews),
        pictures=tuple(pictures),
        summary=tuple(rows),
    )
    write_features(folder, index)


def _write_overview(folder: Path, image: Chosen, scene: Scene, looked: Sequence[Looked]) -> FeatureOverview:
    shown = [one.shown[image.name] for one in looked[:_MOST_RUNS]]
    figure = draw_overview(scene, shown, left_out=len(looked) - len(shown))
    written = style.save(figure, folder / image.folder / "features.svg")
    return FeatureOverview(image.name, tuple(path.relative_to(folder).as_posix() for path in written))


def _write_levels(folder: Path, image: Chosen, scene: Scene, looked: Sequence[Looked]) -> list[FeaturePicture]:
    found = []
    for one in looked:
        run = one.run
        for level in one.shown[image.name].levels:
            path = folder / image.folder / f"{run.key}_{level.name}.png"
            style.save(draw_level(scene, run.title, level), path, suffixes=(".png",))
            own = one.own.get((image.name, level.name), {})
            name = path.relative_to(folder).as_posix()
            found.append(FeaturePicture(image.name, run.key, run.row, run.seed, level.name, level.kind, name, own))
    return found
