"""Measures beside mIoU that say where a row gains: inside objects, near their borders, along their contours."""

from collections.abc import Callable
from dataclasses import dataclass

from exfuse.metrics.boundary_areas import BoundaryAreas
from exfuse.metrics.iou import Areas


@dataclass(frozen=True)
class Measure:
    """A column of a study's table.

    Attributes:
        key: of the column and of its values in a CSV.
        header: of the column.
        explanation: one line.
        areas: per image, (images, C), of a run's `BoundaryAreas`.
    """

    key: str
    header: str
    explanation: str
    areas: Callable[[BoundaryAreas], Areas]


def measures(radius: int) -> tuple[Measure, ...]:
    """Interior, edge and boundary, with ``radius`` px between interior and edge."""
    delta = "and in parentheses the points above the row it builds on, with the 95 % interval"
    return (
        Measure(
            "interior",
            "interior mIoU %",
            f"of pixels farther than {radius} px from borders, {delta}",
            lambda d: d.interior(radius),
        ),
        Measure(
            "edge", f"edge mIoU % ({radius} px)", f"of pixels within {radius} px of a border, {delta}", lambda d: d.band(radius)
        ),
        Measure("boundary", "boundary IoU %", f"mean boundary IoU, {delta}", lambda d: d.boundary),
    )
