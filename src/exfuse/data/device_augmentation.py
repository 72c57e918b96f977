"""Random colour, scale, crop and flip on the device that trains: a loader's worker only decodes, draws numbers and cuts.

One core then feeds a device with as many images as it decodes, not as many as it augments. What is drawn is distributed as in
`exfuse.data.transforms.TrainTransform`. Values differ a little: nothing becomes 8 bits on the way, and contrast is taken about
the mean of the whole image before anything is cut off at white, which in a bright image lies higher.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import functional as vision

from exfuse.data.transforms import COLOURED, TrainTransform
from exfuse.errors import ConfigError
from exfuse.palette import VOID

_GRAY = (0.299, 0.587, 0.114)
_STRONGEST = 2.0  # of colour, a quarter of which is hue's: half of its circle
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class Side(NamedTuple):
    """One side of a crop: which pixels of the scaled image it sees, and which of the image's own were sent for that.

    Attributes:
        own, scaled: pixels of the image and of the scaled image.
        first: of the scaled image that the crop sees; below 0 by what is padded before it.
        begin, end: of the image's own that are sent.
    """

    own: int
    scaled: int
    first: int
    begin: int
    end: int


class Drawn(NamedTuple):
    """The random numbers of a sample, plain ones, which stay with the CPU.

    Attributes:
        rows, columns: where the crop lies.
        flipped: whether left and right change places.
        factors: of brightness, contrast, saturation and hue; of channels other than RGB the first two; none for no change.
        order: in which they are applied.
        mean: grey of the whole image in [0, 1], about which contrast changes.
    """

    rows: Side
    columns: Side
    flipped: bool
    factors: tuple[float, ...]
    order: tuple[int, ...]
    mean: float


class Cut(TypedDict):
    """A sample, (C, h, w) and (h, w) uint8: the pixels of image and mask that its crop sees, of any size."""

    image: Tensor
    mask: Tensor
    position: Tensor
    drawn: Drawn


class DeviceTransform(TrainTransform):
    """A `TrainTransform` in two halves: `cut` in a loader's worker, `finish` on the device.

    Raises:
        ConfigError: if the colour is so strong that hue would turn by more than half of its circle.
    """

    def __init__(
        self,
        crop: int,
        long_side: int | None,
        scale: Sequence[float],
        flip: float,
        colour: float,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(crop, long_side, scale, flip, colour, mean, std)
        if colour > _STRONGEST:
            raise ConfigError(f"recipe.augmentation.colour={colour:g}: with runtime.augment=device at most {_STRONGEST:g}.")
        self.crop, self.flip, self.colour = crop, flip, colour
        self.smallest, self.largest = scale
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def draw(self, image: np.ndarray, seed: int) -> Drawn:
        """The random numbers of a sample, by its seed alone."""
        rng = np.random.default_rng(seed)
        factors, order = self._draw_colour(rng, image.shape[2])
        scale = rng.uniform(self.smallest, self.largest)
        rows, columns = (self._draw_side(rng, own, scale) for own in image.shape[:2])
        mean = float(image.mean(axis=(0, 1)) @ np.array(_GRAY)) / 255 if image.shape[2] == 3 and factors else 0.0
        return Drawn(rows, columns, bool(rng.random() < self.flip), factors, order, mean)

    def _draw_colour(self, rng: np.random.Generator, channels: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
        strength = self.colour
        if strength == 0 or rng.random() >= COLOURED:
            return (), ()
        if channels != 3:
            return (rng.uniform(-strength, strength), 1 + rng.uniform(-strength, strength)), ()
        factors = [rng.uniform(max(0, 1 - strength), 1 + strength) for _ in range(HUE)]
        return (*factors, rng.uniform(-strength / 4, strength / 4)), tuple(rng.permutation(4).tolist())

    def _draw_side(self, rng: np.random.Generator, own: int, scale: float) -> Side:
        scaled = max(1, int(own * scale))
        room = scaled - self.crop
        first = int(rng.integers(0, room + 1)) if room >= 0 else -int(rng.integers(0, 1 - room))
        seen = (max(0, first), min(scaled, first + self.crop) - 1)
        low, high = ((at + 0.5) * own / scaled - 0.5 for at in seen)
        return Side(own, scaled, first, max(0, math.floor(low)), min(own, math.floor(high) + 2))

    def cut(self, image: np.ndarray, mask: np.ndarray, seed: int, position: int) -> Cut:
        """What a device needs of a sample."""
        drawn = self.draw(image, seed)
        place = (slice(drawn.rows.begin, drawn.rows.end), slice(drawn.columns.begin, drawn.columns.end))
        pixels = torch.from_numpy(np.ascontiguousarray(image[place].transpose(2, 0, 1)))
        target = torch.from_numpy(np.array(mask[place], order="C"))
        return {"image": pixels, "mask": target, "position": torch.tensor(position), "drawn": drawn}

    def finish(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of samples on their device as a network sees it: (B, C, crop, crop) float32 and (B, crop, crop) uint8."""
        samples = zip(batch["image"], batch["mask"], batch["drawn"], strict=True)
        mean, std = (one.to(batch["position"].device) for one in (self.mean, self.std))
        images, masks = zip(*(self._finish_one(*sample, mean) for sample in samples), strict=True)
        return {"image": (torch.stack(images) - mean) / std, "mask": torch.stack(masks), "position": batch["position"]}

    def _finish_one(self, pixels: Tensor, mask: Tensor, drawn: Drawn, fill: Tensor) -> tuple[Tensor, Tensor]:
        image = _coloured(pixels / 255, drawn)
        (rows, row, row_inside), (columns, column, column_inside) = (
            _places(side, self.crop, pixels.device) for side in (drawn.rows, drawn.columns)
        )
        if drawn.flipped:
            columns, column, column_inside = columns.flip(0), column.flip(0), column_inside.flip(0)
        height, width = pixels.shape[1:]
        grid = torch.stack(
            [
                ((2 * columns + 1) / width - 1).expand(self.crop, -1),
                ((2 * rows + 1) / height - 1)[:, None].expand(-1, self.crop),
            ],
            dim=-1,
        )
        seen = grid_sample(image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]
        inside = row_inside[:, None] & column_inside
        classes = mask[row[:, None], column]
        return torch.where(inside, seen, fill), torch.where(inside, classes, torch.full_like(classes, VOID))


def collate(samples: Sequence[Cut]) -> dict[str, Any]:
    """Samples of different sizes as lists, their positions as a tensor."""
    batch = {name: [sample[name] for sample in samples] for name in Cut.__annotations__}  # type: ignore[literal-required]
    return {**batch, "position": torch.stack(batch["position"])}


def _places(side: Side, crop: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where each pixel of a crop's side lies among those sent, between two of them and nearest; whether it is in the image."""
    at = torch.arange(crop, device=device) + side.first
    inside = (at >= 0) & (at < side.scaled)
    middle = (at + 0.5) * side.own / side.scaled
    between = (middle - 0.5).clamp(0, side.own - 1) - side.begin
    sent = side.end - side.begin - 1
    return between.clamp(0, sent), (middle.floor().long() - side.begin).clamp(0, sent), inside


def _coloured(image: Tensor, drawn: Drawn) -> Tensor:
    """With other colours, of values in [0, 1]."""
    if not drawn.factors:
        return image
    if not drawn.order:
        brightness, contrast = drawn.factors
        return (image * contrast + brightness).clamp(0, 1)
    mean = drawn.mean
    for step in drawn.order:
        factor = drawn.factors[step]
        if step == BRIGHTNESS:
            image, mean = vision.adjust_brightness(image, factor), min(1.0, mean * factor)
        elif step == CONTRAST:  # about the mean of the whole image, of which this is a part
            image = (image * factor + (1 - factor) * mean).clamp(0, 1)
        elif step == SATURATION:
            image = vision.adjust_saturation(image, factor)
        else:
            image = vision.adjust_hue(image, factor)
    return image
