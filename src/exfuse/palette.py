"""Ids of classes in masks: which one is void, and which colour PASCAL VOC gives each in a palette PNG."""

import numpy as np
from PIL import Image

VOID = 255  # the id of pixels that are neither trained on nor scored


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
