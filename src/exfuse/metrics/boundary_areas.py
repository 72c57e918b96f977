"""Per-image areas near borders, inside objects and along contours: what a run keeps to tell outlines from semantics."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from exfuse.metrics.iou import Areas

RADII = (1, 2, 3, 5, 10, 20, 40)  # of the bands, px; chosen, over the range of DeepLab's plots
EDGE_RADIUS = 5  # px, chosen: parts edge from interior where nobody says otherwise


@dataclass(frozen=True)
class BoundaryAreas:
    """See `exfuse.metrics.boundary` for what a band, an interior and boundary IoU are.

    Attributes:
        radii: of the bands in px, ascending.
        areas: (images, len(radii) + 2, C) each. First one ring a radius, the labelled pixels within it and beyond the one
            before; then those beyond all radii; last the areas of boundary IoU.
    """

    radii: tuple[int, ...]
    areas: Areas

    @classmethod
    def of_images(cls, per_image: Sequence[Areas], radii: Sequence[int] = RADII) -> "BoundaryAreas":
        """From the areas of each image, (len(radii) + 2, C)."""
        return cls(tuple(radii), Areas(*(np.stack(areas) for areas in zip(*per_image, strict=True))))

    def band(self, radius: int) -> Areas:
        """Within ``radius`` px of a border: (images, C).

        Raises:
            ValueError: if the radius is not among the `radii`.
        """
        rings = self.radii.index(radius) + 1
        return Areas(*(area[:, :rings].sum(1) for area in self.areas))

    def interior(self, radius: int) -> Areas:
        """Farther than ``radius`` px from every border: (images, C).

        Raises:
            ValueError: if the radius is not among the `radii`.
        """
        rings = self.radii.index(radius) + 1
        return Areas(*(area[:, rings:-1].sum(1) for area in self.areas))

    @cached_property
    def boundary(self) -> Areas:
        """Of boundary IoU: (images, C)."""
        return Areas(*(area[:, -1] for area in self.areas))

    def parts(self, radius: int) -> dict[str, Areas]:
        """Interior, edge and boundary by name, (images, C) each, with ``radius`` px between interior and edge.

        Raises:
            ValueError: if the radius is not among the `radii`.
        """
        return {"interior": self.interior(radius), "edge": self.band(radius), "boundary": self.boundary}

    def summary(self) -> dict[str, Any]:
        """Mean IoUs over all images as plain data, a list over the `radii` each; None where there is no such pixel."""
        return {
            "radii": list(self.radii),
            "edge": [_mean_iou(self.band(radius)) for radius in self.radii],
            "interior": [_mean_iou(self.interior(radius)) for radius in self.radii],
            "boundary": _mean_iou(self.boundary),
        }


def _mean_iou(per_image: Areas) -> float | None:
    total = per_image.total()
    return float(total.mean_iou()) if total.true.any() else None
