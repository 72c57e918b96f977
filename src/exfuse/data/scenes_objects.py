"""The objects of the scenes: how each kind is drawn and what it is called in which region."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exfuse.data.scenes_canvas import Canvas, Rng, Sprite, colour_between, ellipse, log_uniform, value_noise
from exfuse.data.scenes_surroundings import LAND, SKY, WATER

CLASSES: tuple[str, ...] = (
    "background",
    "boat",
    "cart",
    "bird",
    "fish",
    "balloon",
    "buoy",
    "tree",
    "house",
    "pole",
    "fence",
)


def draw_hull(rng: Rng, size: int) -> Sprite:
    """A planked tub with a cabin: a boat where it floats, a cart where it stands."""
    width = log_uniform(rng, 0.13, 0.44) * size
    height = width * rng.uniform(0.5, 0.75)
    deck = height * rng.uniform(0.45, 0.6)
    canvas = Canvas(width, height)
    hull = colour_between(rng, (0, 1), (0.3, 0.9), (0.35, 0.9))
    cabin = colour_between(rng, (0, 1), (0, 0.5), (0.5, 1))
    left, length = rng.uniform(0.1, 0.5) * width, rng.uniform(0.25, 0.45) * width
    canvas.box(left, height * rng.uniform(0, 0.2), left + length, deck, cabin)
    slant = width * rng.uniform(0.08, 0.2)
    canvas.polygon([(0, deck), (width, deck), (width - slant, height), (slant, height)], hull)
    canvas.box(0, deck, width, deck + max(1.0, 0.06 * height), hull * 0.6)
    period = rng.uniform(3, 5)
    return canvas.sprite(lambda rows, columns: _planks(rows, columns, period))


def _planks(rows: int, columns: int, period: float) -> np.ndarray:
    joints = 1 + 0.16 * np.sin(2 * np.pi / period * np.arange(rows, dtype=np.float32))
    return np.broadcast_to(joints[:, None], (rows, columns))


def draw_winged(rng: Rng, size: int) -> Sprite:
    """A spindle with a tail and two fins or wings: a bird in the sky, a fish in the water."""
    length = log_uniform(rng, 0.11, 0.38) * size
    half = length / 2
    thick = half * rng.uniform(0.3, 0.5)
    reach = thick * rng.uniform(1.6, 2.9)
    colour = colour_between(rng, (0, 1), (0.1, 0.7), (0.25, 0.95))
    fin = np.array([(0.35 * half, 0), (-0.3 * half, 0), (-0.45 * half, -reach)])
    parts = [
        (np.array([(-0.6 * half, 0), (-half, -0.9 * thick), (-0.85 * half, 0), (-half, 0.9 * thick)]), 0.75),
        (fin, 0.75),
        (fin * (1, -rng.uniform(0.5, 1)), 0.75),
        (ellipse((0.15 * half, 0), (0.85 * half, thick)), 1.0),
        (ellipse((0.7 * half, -0.2 * thick), (0.09 * half, 0.09 * half)), 0.2),
    ]
    angle = rng.uniform(-0.6, 0.6)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turn[0] *= rng.choice([-1, 1])  # heads left or right
    canvas = Canvas(2.4 * half, 2.4 * half)
    for points, shade in parts:
        canvas.polygon(points @ turn + 1.2 * half, colour * shade)
    return canvas.sprite(lambda rows, columns: 1 + 0.1 * value_noise(rng, rows, columns, (4, 4), 1))


def draw_ball(rng: Rng, size: int) -> Sprite:
    """A striped ball with a knob: a balloon in the sky, a buoy in the water."""
    radius = log_uniform(rng, 0.045, 0.15) * size
    tall = radius * rng.uniform(1, 1.25)
    canvas = Canvas(2 * radius, 2 * tall + 0.4 * radius)
    light = colour_between(rng, (0, 1), (0, 0.3), (0.75, 1))
    vivid = colour_between(rng, (0, 1), (0.6, 1), (0.5, 1))
    knob = 2 * tall if rng.random() < 0.5 else 0.0
    middle = (radius, tall + 0.2 * radius)
    canvas.box(0.75 * radius, knob, 1.25 * radius, knob + 0.4 * radius, vivid * 0.6)
    for stripe, share in enumerate((1.0, 0.62, 0.22)):  # meridians, seen from the side
        canvas.polygon(ellipse(middle, (radius * share, tall)), light if stripe == 1 else vivid)

    def shading(rows: int, columns: int) -> np.ndarray:
        y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
        return 1.1 - 0.3 * ((x + 0.3) ** 2 + (y + 0.3) ** 2)

    return canvas.sprite(shading)


def draw_tree(rng: Rng, size: int) -> Sprite:
    """A trunk under a crown of leaf clusters, its greens and browns close to those of the land."""
    height = log_uniform(rng, 0.18, 0.6) * size
    width = height * rng.uniform(0.5, 0.8)
    canvas = Canvas(width, height)
    bark = colour_between(rng, (0.04, 0.1), (0.3, 0.6), (0.2, 0.4))
    canvas.bar((width / 2, height / 2), (width / 2, height), max(3.0, 0.1 * height), bark)
    leaves = colour_between(rng, (0.1, 0.38), (0.35, 0.75), (0.3, 0.6))
    for _ in range(rng.integers(6, 10)):
        radius = width * rng.uniform(0.17, 0.28)
        centre = (rng.uniform(radius, width - radius), rng.uniform(radius, 0.75 * height - radius / 2))
        canvas.polygon(ellipse(centre, (radius, radius), 9), leaves * rng.uniform(0.8, 1.2))
    canvas.polygon(ellipse((width / 2, 0.42 * height), (0.28 * width, 0.28 * height), 11), leaves)  # joins the clusters
    return canvas.sprite(lambda rows, columns: 1 + 0.2 * value_noise(rng, rows, columns, (3, 3), 1))


def draw_house(rng: Rng, size: int) -> Sprite:
    """Brick walls with windows under a roof."""
    width = log_uniform(rng, 0.16, 0.5) * size
    height = width * rng.uniform(0.7, 1.1)
    eaves = height * rng.uniform(0.3, 0.5)
    canvas = Canvas(width, height)
    wall = colour_between(rng, (0, 0.15), (0.1, 0.5), (0.5, 0.95))
    canvas.box(0.08 * width, eaves, 0.92 * width, height, wall)
    ridge = rng.uniform(0, 0.3)
    roof = [(0, eaves), (ridge * width, 0), ((1 - ridge) * width, 0), (width, eaves)]
    canvas.polygon(roof, colour_between(rng, (0, 0.1), (0.2, 0.7), (0.25, 0.6)))
    columns, pane = int(rng.integers(2, 4)), 0.13 * width
    for column in range(columns):
        x, y = (0.08 + 0.84 * (column + 0.5) / columns) * width, eaves + 0.35 * (height - eaves)
        canvas.box(x - pane / 2, y - pane / 2, x + pane / 2, y + pane / 2, wall * 0.35)
    period = rng.uniform(3, 5)
    return canvas.sprite(lambda rows, cols: _planks(rows, cols, period))


def draw_pole(rng: Rng, size: int) -> Sprite:
    """A slightly leaning pole, most of them with a cross-arm; 1.4 to 3 pixels thick whatever the image size."""
    height = log_uniform(rng, 0.2, 0.65) * size
    lean, arm = 0.04 * height * rng.uniform(-1, 1), 0.12 * height
    canvas = Canvas(2 * arm, height)
    colour = colour_between(rng, (0, 1), (0, 0.3), (0.1, 0.9))
    canvas.bar((arm + lean, 0), (arm - lean, height), rng.uniform(1.4, 3), colour)
    if rng.random() < 0.7:
        canvas.bar((0, 0.1 * height), (2 * arm, 0.1 * height), rng.uniform(1.4, 2), colour)
    return canvas.sprite(lambda rows, columns: np.ones((rows, columns), np.float32), thin=True)


def draw_fence(rng: Rng, size: int) -> Sprite:
    """Posts and two rails, 1.4 to 2.2 pixels thick; what lies behind shows through."""
    width, height = log_uniform(rng, 0.2, 0.75) * size, max(11.0, rng.uniform(0.08, 0.14) * size)
    slope = 0.06 * width * rng.uniform(-1, 1)
    canvas = Canvas(width, height + abs(slope))
    colour = colour_between(rng, (0, 0.15), (0, 0.5), (0.15, 0.95))
    thickness = rng.uniform(1.4, 2.2)
    top = max(slope, 0.0)  # of the left end; the right end stands ``slope`` higher
    posts = max(2, round(width / rng.uniform(9, 14)))
    for along in (np.arange(posts) + 0.5) / posts:
        x, y = along * width, top - along * slope
        canvas.bar((x, y), (x, y + height), thickness, colour)
    for level in (0.2, 0.7):
        canvas.bar((0, top + level * height), (width, top - slope + level * height), thickness, colour)
    return canvas.sprite(lambda rows, columns: np.ones((rows, columns), np.float32), thin=True)


@dataclass(frozen=True)
class Kind:
    """A shape and what it is called where.

    Attributes:
        draw: draws the object; it is not told the region, so look-alikes share every distribution.
        names: class name by region.
        share: relative frequency.
        footprint: share of the height, from the bottom, that must lie in the region; 1 for what floats or flies.
    """

    draw: Callable[[Rng, int], Sprite]
    names: dict[int, str]
    share: float
    footprint: float


KINDS: tuple[Kind, ...] = (
    Kind(draw_hull, {WATER: "boat", LAND: "cart"}, 0.24, 0.4),
    Kind(draw_winged, {SKY: "bird", WATER: "fish"}, 0.22, 1.0),
    Kind(draw_ball, {SKY: "balloon", WATER: "buoy"}, 0.2, 1.0),
    Kind(draw_tree, {LAND: "tree"}, 0.1, 0.15),
    Kind(draw_house, {LAND: "house"}, 0.08, 0.3),
    Kind(draw_pole, {LAND: "pole", WATER: "pole"}, 0.08, 0.1),
    Kind(draw_fence, {LAND: "fence"}, 0.08, 1.0),
)
