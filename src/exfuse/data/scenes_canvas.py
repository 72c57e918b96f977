"""What scenes are drawn with: shapes at four times the size, noise that looks like texture, colours."""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Rng = np.random.Generator
Range = tuple[float, float]
SUPERSAMPLING = 4


@dataclass(frozen=True)
class Sprite:
    """An object cut out of its surroundings.

    Attributes:
        colour: float32 (h, w, 3), premultiplied with ``coverage``.
        coverage: float32 (h, w), the share of each pixel that the object fills, 0 to 1.
        thin: whether its parts are only 1 to 3 pixels wide.
    """

    colour: np.ndarray
    coverage: np.ndarray
    thin: bool = False


def value_noise(rng: Rng, height: int, width: int, cell: tuple[float, float], octaves: int = 2) -> np.ndarray:
    """Smooth random field of mean 0, float32 (height, width): bumps ``cell`` = (rows, columns) apart and finer ones."""
    field = np.zeros((height, width), dtype=np.float32)
    for octave in range(octaves):
        rows, columns = (int(side * 2**octave / step) + 2 for side, step in zip((height, width), cell, strict=True))
        grid = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.5**octave)
        field += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return field


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a length: halving it is as likely as doubling it."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


class Canvas:
    """Draw polygons ``SUPERSAMPLING`` times too large; :meth:`sprite` shrinks them into antialiased coverage."""

    def __init__(self, width: float, height: float) -> None:
        self.pixels = np.zeros((int(height + 2) * SUPERSAMPLING, int(width + 2) * SUPERSAMPLING, 4), dtype=np.uint8)

    def polygon(self, points: np.ndarray | list[tuple[float, float]], colour: np.ndarray) -> None:
        """Fill the polygon through ``points``, (N, 2) as (x, y), with ``colour``, (3,)."""
        corners = np.round((np.asarray(points) + 0.5) * SUPERSAMPLING).astype(np.int32)
        cv2.fillPoly(self.pixels, [corners], (*np.clip(colour, 0, 255).tolist(), 255))

    def box(self, left: float, top: float, right: float, bottom: float, colour: np.ndarray) -> None:
        """Fill an upright rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def bar(self, start: tuple[float, float], end: tuple[float, float], thickness: float, colour: np.ndarray) -> None:
        """Fill a straight bar of ``thickness`` pixels."""
        along = np.subtract(end, start) / max(float(np.hypot(*np.subtract(end, start))), 1e-6)
        across = np.array([-along[1], along[0]]) * thickness / 2
        self.polygon(np.stack([start + across, end + across, end - across, start - across]), colour)

    def sprite(self, texture: Callable[[int, int], np.ndarray], thin: bool = False) -> Sprite:
        """Shrink, trim and multiply with ``texture(height, width)``, float32 (height, width) around 1."""
        height, width = (side // SUPERSAMPLING for side in self.pixels.shape[:2])
        small = cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        left, top, columns, rows = cv2.boundingRect((small[..., 3] > 0).astype(np.uint8))
        small = small[top : top + rows, left : left + columns]
        return Sprite(small[..., :3] * texture(rows, columns)[..., None], small[..., 3] / 255, thin)


def ellipse(centre: tuple[float, float], radii: tuple[float, float], corners: int = 28) -> np.ndarray:
    """Corners of an upright ellipse, (corners, 2) as (x, y)."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)], axis=1)


def colour_between(rng: Rng, hue: Range, saturation: Range, value: Range) -> np.ndarray:
    """Draw a colour, (3,) RGB, from ranges of hue, saturation and value, each within 0 to 1."""
    return np.array(colorsys.hsv_to_rgb(*(rng.uniform(*channel) for channel in (hue, saturation, value)))) * 255
