"""Run one model over images and keep what is drawn and counted of its low-level maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from exfuse.data.pixels import read_image, read_mask
from exfuse.data.split import Split
from exfuse.data.transforms import EvalTransform
from exfuse.models.segmenter import Segmenter
from exfuse.reports.features.drawing import Shown
from exfuse.reports.features.regions import Borders, find_borders, scale_to
from exfuse.reports.features.sources import Chosen
from exfuse.reports.features.summary import Collected, Numbers
from exfuse.reports.features.taps import Tapped, tap
from exfuse.reports.features.views import view
from exfuse.store.features import FeatureRun


@dataclass
class Looked:
    """What one run showed.

    Attributes:
        shown: by the image's name, what is drawn.
        own: by the image's name and the level, the statistics of that image alone; of images with a truth.
        collected: by level, the statistics over the split.
    """

    run: FeatureRun
    shown: dict[str, Shown] = field(default_factory=dict)
    own: dict[tuple[str, str], dict[str, Numbers]] = field(default_factory=dict)
    collected: dict[str, Collected] = field(default_factory=dict)


@dataclass(frozen=True)
class Looker:
    """A model with all that it needs to look at images.

    Attributes:
        classes: number of classes K.
        void_ids: ids that mean void in mask files.
        band: see `exfuse.reports.features`.
    """

    model: Segmenter
    transform: EvalTransform
    device: torch.device
    classes: int
    void_ids: Sequence[int]
    band: float

    def look(self, found: Looked, images: Sequence[Chosen], split: Split | None, positions: Sequence[int]) -> Iterator[None]:
        """Fill ``found`` from the chosen images and from ``positions`` of the split, yielding after each."""
        for image in images:
            tapped, ids = self._tap(read_image(image.image, image.upright))
            found.shown[image.name] = Shown(found.run.title, ids, [view(one) for one in tapped])
            if image.mask is not None:
                borders = self.borders(image)
                for one in tapped:
                    own = Collected(self.classes).add(image.name, one, scale_to(borders, _size(one)))
                    found.own[image.name, one.name] = own
            yield
        for position in positions:
            assert split is not None
            item = split.items[position]
            tapped, _ = self._tap(split.image(position))
            borders = self.borders(Chosen(item.id, item.image, item.mask))
            for one in tapped:
                collected = found.collected.setdefault(one.name, Collected(self.classes))
                collected.add(item.id, one, scale_to(borders, _size(one)))
            yield

    def borders(self, image: Chosen) -> Borders:
        """Class borders of an image with a truth."""
        assert image.mask is not None
        return find_borders(read_mask(image.mask, self.classes, self.void_ids), self.band)

    def _tap(self, pixels: NDArray[np.uint8]) -> tuple[list[Tapped], NDArray[np.uint8]]:
        height, width = pixels.shape[:2]
        tapped, ids = tap(self.model, self.transform(pixels).to(self.device), (height, width))
        return [one.cpu() for one in tapped], ids.cpu().numpy().astype(np.uint8)


def _size(tapped: Tapped) -> tuple[int, int]:
    return tapped.before.shape[1], tapped.before.shape[2]
