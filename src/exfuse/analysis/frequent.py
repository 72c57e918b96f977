"""Classes that enough images show: in mIoU those that few images show weigh as much, and a single image may decide them."""

from collections.abc import Iterable
from typing import NamedTuple

from exfuse.metrics.iou import Areas
from exfuse.store.study import Run, Study

ENOUGH = 10  # images, chosen


class Shown(NamedTuple):
    """The classes that `ENOUGH` of the scored images show, and of each other how many do, fewest first; none of none."""

    frequent: list[str]
    rare: dict[str, int]


def by_images(study: Study) -> Shown | None:
    """A study's classes by how many of its images show them.

    None where none is rare, fewer than two are frequent, runs were scored on different images, or scores are no counts of
    pixels.
    """
    runs = [(run, record) for row in study.rows for run in row.runs.values() if (record := run.done) is not None]
    if not runs or len({record.manifests["val"] for _, record in runs}) > 1:
        return None
    run, record = runs[0]
    if not record.scored or not isinstance(areas := run.additive(), Areas):
        return None
    shown = sorted(zip(record.scores.iou, (areas.true > 0).sum(0).tolist(), strict=False), key=lambda one: one[1])
    frequent = [name for name, images in shown if images >= ENOUGH]
    rare = {name: images for name, images in shown if 0 < images < ENOUGH}
    return Shown(frequent, rare) if rare and len(frequent) > 1 else None


def with_images(study: Study, names: Iterable[str]) -> list[str]:
    """Names of classes, a rare one's with how many images show it in brackets."""
    found = by_images(study)
    rare = found.rare if found else {}
    return [f"{name} ({rare[name]})" if name in rare else name for name in names]


def of_frequent(run: Run) -> Areas | None:
    """Of a finished run the areas of each image, (images, classes), of the classes that enough of them show."""
    areas = run.additive()
    if not isinstance(areas, Areas):
        return None
    frequent = (areas.true > 0).sum(0) >= ENOUGH
    return Areas(*(area[:, frequent] for area in areas))
