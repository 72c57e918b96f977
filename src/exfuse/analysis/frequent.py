"""Classes that enough images show: in mIoU those that few images show weigh as much, and a single image may decide them."""

from exfuse.metrics.iou import Areas
from exfuse.store.study import Run, Study

ENOUGH = 10  # images, chosen


def rare_classes(study: Study) -> dict[str, int]:
    """By class how many of the scored images show it, where these are fewer than `ENOUGH`; classes that none shows left out.

    Empty, too, where fewer than two classes are left without them, or scores are no counts of pixels.
    """
    runs = ((run, run.done) for row in study.rows for run in row.runs.values())
    run, record = next(((run, done) for run, done in runs if done is not None and done.scored), (None, None))
    if run is None or record is None or not isinstance(areas := run.additive(), Areas):
        return {}
    shown = dict(zip(record.scores.iou, (areas.true > 0).sum(0).tolist(), strict=False))
    rare = {name: images for name, images in sorted(shown.items(), key=lambda one: one[1]) if 0 < images < ENOUGH}
    return rare if sum(images >= ENOUGH for images in shown.values()) > 1 else {}


def of_frequent(run: Run) -> Areas | None:
    """Of a finished run the areas of each image, (images, classes), of the classes that enough of them show."""
    areas = run.additive()
    if not isinstance(areas, Areas):
        return None
    frequent = (areas.true > 0).sum(0) >= ENOUGH
    return Areas(*(area[:, frequent] for area in areas))
