"""Colours: of classes in masks and pictures, of a study's variants; and the id of void."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

VOID = 255  # the id of pixels that are neither trained on nor scored
VOC_CLASSES = [
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
# Okabe and Ito's colours without black and yellow, told apart with any kind of colour vision; grey for the baseline.
VARIANTS = ("#5f6b76", "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")
_GROUND = (31, 35, 39)  # of a background class: nearly black, as VOC's


def variant_place(place: int) -> tuple[int, int]:
    """The colour in `VARIANTS` of a study's row, from 0, and how often all were used before; grey is the first row's alone."""
    turn, colour = divmod(place - 1, len(VARIANTS) - 1) if place else (0, -1)
    return colour + 1, turn


def variant_colours(rows: int) -> list[str]:
    """The colour of each row of a study, the same on its page, in its figures and at W&B."""
    return [VARIANTS[variant_place(place)[0]] for place in range(rows)]


def is_background(name: str) -> bool:
    """Whether a first class of this name is what no object covers."""
    return name.lower() in ("background", "backgrounds")


def class_palette(classes: Sequence[str]) -> np.ndarray:
    """Colours to show classes in, uint8 (256, 3), RGB by id: VOC's for VOC, else some that are far apart for any eye."""
    return voc_palette() if list(classes) == VOC_CLASSES else _spaced(len(classes), is_background(classes[0]))


@cache
def _spaced(classes: int, background: bool) -> np.ndarray:
    import distinctipy  # here: most commands show nothing in colours

    palette = voc_palette()
    avoided = [(0, 0, 0), (1, 1, 1), *(tuple(np.array(colour) / 255) for colour in (palette[VOID], _GROUND))]
    tries = 1000 if classes <= 40 else 100  # of each colour: more spread so many no further and take seconds
    found = distinctipy.get_colors(classes - background, avoided, colorblind_type="Deuteranomaly", n_attempts=tries, rng=0)
    shown = np.round(255 * np.array(found).reshape(-1, 3))
    palette[:classes] = [*([_GROUND] if background else []), *shown]
    return palette


def voc_palette() -> np.ndarray:
    """Return the VOC colour map, uint8 (256, 3), RGB: row ``i`` is the colour of class id ``i``, row 255 that of void.

    The devkit spreads the bits of an id over the channels: counted from bit 0, bits 0, 3, 6 go to red, 1, 4, 7 to
    green and 2, 5 to blue, the lowest of them to the most significant bit of the channel.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= ((ids >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


def palette_image(ids: np.ndarray, colours: int = 256) -> Image.Image:
    """A mask (H, W) of uint8 ids as an image of mode P, with the first ``colours`` of VOC's palette."""
    mask = Image.fromarray(ids)
    mask.putpalette(voc_palette()[:colours].tobytes())
    return mask
