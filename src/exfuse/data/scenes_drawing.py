"""Embedded default data set: deterministic textured scenes in PASCAL VOC layout.

It needs no download and still asks what the paper asks of a segmentation network: fine structures, occlusion and
object boundaries want resolution; look-alikes, drawn by one function and told apart only by the region around them,
want context.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from exfuse.palette import VOID
from exfuse.randomness import derive_seed

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


# What surrounds the objects: sky, land and water, the light on them, and the sensor that sees them.

SKY, LAND, WATER = 0, 1, 2  # all of them are class "background": they only give context

SKY_TINTS = [(110, 160, 220), (165, 180, 195), (205, 170, 150), (85, 120, 175)]
LAND_TINTS = [(95, 125, 60), (180, 160, 115), (125, 100, 75), (125, 128, 125), (150, 150, 90)]
WATER_TINTS = [(60, 105, 140), (95, 125, 130), (70, 120, 110), (115, 125, 140)]


def draw_regions(rng: Rng, height: int, width: int) -> np.ndarray:
    """Lay out sky, land and water: uint8 (height, width) holding SKY, LAND and WATER.

    The horizon may lie anywhere, even above the image, and the shore may run in any direction, so that neither the
    row nor the column tells the regions apart.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    horizon = rng.uniform(-0.1, 0.85) * height
    skyline = horizon + 0.015 * height * value_noise(rng, 1, width, (1, width / 5))
    angle = rng.uniform(0, 2 * np.pi)
    top = max(horizon, 0.0)
    shore_y = top + rng.uniform(0.35, 0.65) * (height - top)
    beyond = np.sin(angle) * (y - shore_y) + np.cos(angle) * (x - rng.uniform(0.35, 0.65) * width)
    beyond += 0.03 * height * value_noise(rng, height, width, (height / 4, width / 4))
    ground = np.where(beyond > 0, LAND, WATER)
    if rng.random() < 0.15:  # a few scenes have no shore
        ground[:] = rng.choice([LAND, WATER])
    return np.where(y < skyline, SKY, ground).astype(np.uint8)


def paint_background(rng: Rng, regions: np.ndarray) -> np.ndarray:
    """Texture ``regions``, uint8 (H, W): float32 (H, W, 3).

    Water often mirrors the sky or is as muddy as the land; then only the shapes of clouds, waves and grains differ.
    """
    height, width = regions.shape

    def tint(choices: list[tuple[int, int, int]]) -> np.ndarray:
        return (np.array(choices[rng.integers(len(choices))]) + rng.uniform(-18, 18, 3)).astype(np.float32)

    depth = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    zenith, soil = tint(SKY_TINTS), tint(LAND_TINTS)
    haze = tint(SKY_TINTS) * 0.4 + 140
    clouds = np.clip(value_noise(rng, height, width, (height / 6, width / 3), 3) * 0.5, 0, 0.8)[..., None]
    sky = (1 - depth[..., None]) * zenith + depth[..., None] * haze
    sky = sky + clouds * (235 - sky)

    patches = value_noise(rng, height, width, (height / 5, width / 5))
    grain = value_noise(rng, height, width, (4, 4))
    land = soil * (1 + rng.uniform(0.05, 0.14) * patches + rng.uniform(0.06, 0.16) * grain)[..., None]

    waves = value_noise(rng, height, width, (4, 22))
    liquid = (tint(WATER_TINTS), 0.9 * zenith, 0.9 * soil)[rng.choice(3, p=(0.5, 0.25, 0.25))]
    water = liquid * (1 + rng.uniform(0.06, 0.16) * waves + 0.3 * (0.7 - depth))[..., None]
    return np.choose(regions[..., None], [sky, land, water]).astype(np.float32)


def expose(rng: Rng, scene: np.ndarray) -> np.ndarray:
    """Photograph ``scene``, float32 (H, W, 3): lamp colour, light from one side, exposure and sensor noise; uint8."""
    height, width = scene.shape[:2]
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25)
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    light = (rng.uniform(0.65, 1.15) * (1 + slope * (np.cos(angle) * x + np.sin(angle) * y))).astype(np.float32)
    image = scene * light[..., None] * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    image += rng.uniform(2, 8) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


# The objects of the scenes: how each kind is drawn and what it is called in which region.

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


# From (seed, split, index) to an image and its mask.

SMALLEST = 64
MARGIN = 4  # pixels around an object's footprint that must lie in its region, so that the context can be seen


@dataclass(frozen=True)
class Placed:
    """An object in a scene: ``top`` and ``left`` of its sprite in pixels, negative where the image cuts it off."""

    sprite: Sprite
    kind: Kind
    region: int
    top: int
    left: int

    @property
    def class_id(self) -> int:
        return CLASSES.index(self.kind.names[self.region])

    @property
    def bottom(self) -> int:
        return self.top + self.sprite.coverage.shape[0]


@dataclass(frozen=True)
class Scene:
    """A scene with what its masks do not tell.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        ids: uint8 (H, W), class ids and VOID.
        regions: uint8 (H, W), the background before any object: SKY, LAND or WATER.
        objects: those that were painted, from back to front.
    """

    image: np.ndarray
    ids: np.ndarray
    regions: np.ndarray
    objects: tuple[Placed, ...]


def draw_scene(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw image ``index`` of ``split``: a function of these arguments alone, however many images are asked for.

    Returns:
        RGB image, uint8 (H, W, 3), and class ids, uint8 (H, W), with 255 for void. The longer side is ``size``, the
        other one at least 3/4 of it.

    Raises:
        ValueError: if ``size`` is below 64 pixels, where the objects become too small to label.
    """
    scene = compose_scene(seed, split, index, size)
    return scene.image, scene.ids


def compose_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """Draw a scene and keep its regions and objects; arguments and errors as in :func:`draw_scene`."""
    if size < SMALLEST:
        raise ValueError(f"scenes need a size of at least {SMALLEST} pixels, got {size}")
    words = [derive_seed("scenes", seed, split, index, word) for word in range(4)]  # 128 bits: no two scenes alike
    rng = np.random.default_rng(words)
    height, width = size, round(size * rng.uniform(0.75, 1))
    if rng.random() < 0.6:
        height, width = width, height
    regions = draw_regions(rng, height, width)
    image = paint_background(rng, regions)

    shares = np.array([kind.share for kind in KINDS])
    placed = []
    for choice in rng.choice(len(KINDS), size=rng.integers(9, 17), p=shares / shares.sum()):
        kind = KINDS[choice]
        sprite = kind.draw(rng, size)  # before the region is drawn: nothing in it can depend on the class
        region = int(rng.choice(list(kind.names)))
        corner = _find_room(rng, regions == region, sprite.coverage.shape, kind.footprint)
        if corner is not None:
            placed.append(Placed(sprite, kind, region, *corner))
    placed.sort(key=lambda one: one.bottom)  # what stands lower in the image is nearer

    ids = np.zeros((height, width), dtype=np.uint8)
    painted = _paint_objects(image, ids, placed)
    return Scene(expose(rng, image), ids, regions, painted)


def _find_room(rng: Rng, inside: np.ndarray, shape: tuple[int, ...], footprint: float) -> tuple[int, int] | None:
    """Choose (top, left) for a sprite of ``shape`` so that its footprint and margin keep to ``inside``, bool (H, W).

    The middle of the footprint lies in the image, the rest may be cut off. None if there is no room.
    """
    rows, columns = round(shape[0] * footprint) + 2 * MARGIN, shape[1] + 2 * MARGIN
    room = cv2.erode(inside.astype(np.uint8), np.ones((rows, columns), np.uint8))  # beyond the image counts as inside
    candidates = np.flatnonzero(room)
    if not candidates.size:
        return None
    y, x = divmod(int(rng.choice(candidates)), inside.shape[1])
    bottom = y - rows // 2 + rows - MARGIN
    return bottom - shape[0], x - columns // 2 + MARGIN


def _paint_objects(image: np.ndarray, ids: np.ndarray, placed: list[Placed]) -> tuple[Placed, ...]:
    """Paint from back to front into ``image``, float32 (H, W, 3), and ``ids``, uint8 (H, W), both changed in place.

    An object that would hide more than 60 % of another one is left out; the painted ones are returned.
    """
    height, width = ids.shape
    owner = np.zeros((height, width), dtype=np.int64)  # 0: background; i: the i-th painted object
    areas: list[int] = []
    painted: list[Placed] = []
    for one in placed:
        columns = one.sprite.coverage.shape[1]
        y0, x0, y1, x1 = max(one.top, 0), max(one.left, 0), min(one.bottom, height), min(one.left + columns, width)
        cut = np.s_[y0 - one.top : y1 - one.top, x0 - one.left : x1 - one.left]
        coverage, here = one.sprite.coverage[cut], np.s_[y0:y1, x0:x1]
        solid = coverage >= 0.5

        left_over = np.bincount(owner.ravel(), minlength=len(areas) + 1)
        left_over -= np.bincount(owner[here][solid], minlength=len(areas) + 1)
        if not solid.any() or (left_over[1:] < 0.4 * np.array(areas)).any():
            continue
        painted.append(one)
        areas.append(int(solid.sum()))
        owner[here][solid] = len(areas)

        image[here] = image[here] * (1 - coverage[..., None]) + one.sprite.colour[cut]
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[here] = solid
        reach = 1 if one.sprite.thin else 2  # a wider band would leave nothing between the rails of a fence
        band = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
        ids[band > 0] = VOID
        ids[mask > 0] = one.class_id
    return tuple(painted)
