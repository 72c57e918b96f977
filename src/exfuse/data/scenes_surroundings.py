"""What surrounds the objects of scenes: sky, land and water, the light on them, and the sensor that sees them."""

import numpy as np

from exfuse.data.scenes_canvas import Rng, value_noise

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
