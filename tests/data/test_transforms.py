import random
import warnings

import numpy as np
import pytest
import torch

from exfuse.data.transforms import A, EvalTransform, TrainTransform
from exfuse.errors import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AS_IS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}  # pixels in [0, 1]
IMAGENET = {"mean": MEAN, "std": STD}


def still(crop: int, **changes: object) -> TrainTransform:
    """A transform that changes nothing but what ``changes`` say."""
    options = {"long_side": None, "scale": (1.0, 1.0), "flip": 0.0, "colour": 0.0, **AS_IS} | changes
    return TrainTransform(crop, **options)  # type: ignore[arg-type]


def blocks(height: int, width: int, side: int, seed: int = 0) -> np.ndarray:
    """Squares of random ids 0..20 and void."""
    ids = np.random.default_rng(seed).choice([*range(21), 255], (height // side + 1, width // side + 1))
    return ids.repeat(side, 0).repeat(side, 1)[:height, :width].astype(np.uint8)


def coloured(ids: np.ndarray) -> np.ndarray:
    """An image whose colour tells the id below it."""
    return np.stack([ids * 12, 255 - ids * 12, ids], axis=-1).astype(np.uint8)


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """Back from `AS_IS`: (3, H, W) in [0, 1] -> (H, W, 3)."""
    return (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def away_from_edges(ids: np.ndarray, by: int) -> np.ndarray:
    """Where every pixel within ``by`` rows and columns has the same id; what lies beyond the crop is unknown."""
    known = np.pad(ids.astype(int), by, constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(known, (2 * by + 1, 2 * by + 1))
    return (windows == ids[..., None, None]).all((2, 3))


def test_normalisation_is_the_formula():
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    expected = ((image / 255 - MEAN) / STD).transpose(2, 0, 1)
    trained, _ = still(24, **IMAGENET)(image, image[..., 0], seed=0)
    for pixels in (trained, EvalTransform(None, MEAN, STD)(image)):
        assert pixels.dtype == torch.float32
        np.testing.assert_allclose(pixels.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("colour", [0.0, 0.4])
def test_padding_is_void_in_the_mask_and_the_mean_colour_in_the_image(colour):
    ids = np.full((20, 30), 4, np.uint8)
    corners = set()
    for seed in range(20):
        pixels, mask = still(64, colour=colour, **IMAGENET)(np.full((20, 30, 3), 250, np.uint8), ids, seed)
        assert set(mask.unique().tolist()) == {4, 255}
        rows, columns = torch.nonzero(mask == 4, as_tuple=True)
        assert len(rows) == 20 * 30
        corners.add((int(rows.min()), int(columns.min())))
        half_a_level = torch.tensor([0.5 / 255 / std for std in STD])
        assert (pixels[:, mask == 255].abs() <= half_a_level[:, None] + 1e-6).all()
        assert (pixels[:, mask == 4] > 0.2).all()
    assert len(corners) > 15  # the padding is not always on the same side


@pytest.mark.parametrize("scale", [0.5, 0.61, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_mask_stays_on_its_image(scale, flip):
    ids = blocks(90, 120, side=15)
    for seed in range(4):
        pixels, mask = still(64, scale=(scale, scale), flip=flip)(coloured(ids), ids, seed)
        inside = away_from_edges(mask.numpy(), 1) & (to_uint8(pixels).any(-1))  # padding is black here
        assert inside.mean() > 0.2
        np.testing.assert_array_equal(to_uint8(pixels)[inside], coloured(mask.numpy())[inside])


@pytest.mark.parametrize(
    ("side", "options"),  # of the scaled image of 60 x 60 pixels
    [(36, {"scale": (0.6, 0.6)}), (78, {"scale": (1.3, 1.3)}), (102, {"scale": (1.7, 1.7)}), (83, {"long_side": 83})],
)
def test_mask_is_not_shifted_against_its_image_by_a_part_of_a_pixel(side, options):
    """The share of white in a row gives the position of an edge to a fraction of a pixel."""
    shifts = []
    for edge in range(10, 50):
        ids = np.zeros((60, 60), np.uint8)
        ids[:, edge:] = 1
        image = np.repeat(ids[..., None] * np.uint8(255), 3, axis=2)
        pixels, mask = still(side, **options)(image, ids, seed=0)
        shifts.append(float(mask[0].sum() - pixels[0, 0].sum()))
    assert abs(np.mean(shifts)) < 0.05
    assert max(np.abs(shifts)) <= 0.51


def test_crop_is_a_window_of_the_image_that_may_lie_anywhere():
    ids = np.arange(40 * 50).reshape(40, 50)
    image = np.stack([ids // 50, ids % 50, 0 * ids], axis=-1).astype(np.uint8)  # row and column
    mask = (image[..., 0] % 21).astype(np.uint8)
    corners = set()
    for seed in range(60):
        pixels, cropped = still(32)(image, mask, seed)
        top, left = to_uint8(pixels)[0, 0, :2]
        corners.add((int(top), int(left)))
        np.testing.assert_array_equal(to_uint8(pixels), image[top : top + 32, left : left + 32])
        np.testing.assert_array_equal(cropped, mask[top : top + 32, left : left + 32])
    assert {top for top, _ in corners} >= {0, 8}  # 9 places for the crop's first row, 19 for its first column
    assert len(corners) > 40


@pytest.mark.parametrize("shape", [(1, 40, 3), (40, 1, 3), (1, 1, 5), (2, 300, 1)])
def test_of_a_thin_image_a_pixel_of_each_side_stays(shape):
    thin = TrainTransform(16, None, (0.3, 0.4), 0.5, 0.0, [0.5] * shape[2], [0.25] * shape[2])
    for seed in range(8):
        image, mask = thin(np.full(shape, 255, np.uint8), np.full(shape[:2], 3, np.uint8), seed)
        assert image.shape == (shape[2], 16, 16)
        assert ((image == 2).all(0) == (mask == 3)).all()
        assert 0 < (mask == 3).sum() <= 16 * 16


def test_flip_mirrors_image_and_mask_in_its_share_of_cases():
    ids = blocks(24, 24, side=4)
    tracked = 0
    for seed in range(100):
        pixels, mask = still(24, flip=0.5)(coloured(ids), ids, seed)
        flipped = bool((mask.numpy() != ids).any())
        expected = ids[:, ::-1] if flipped else ids
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_array_equal(to_uint8(pixels), coloured(expected))
        tracked += flipped
    assert 35 <= tracked <= 65  # beyond three standard deviations of a fair coin


def test_scale_place_and_flip_are_drawn_independently():
    """Each step's own copy of one generator would flip just the images that it scales down."""
    side = 64
    # red falls from left to right and green from top to bottom by one level a pixel of the original
    image = np.zeros((side, side, 3), np.uint8)
    image[..., 0] = 200 - np.arange(side)
    image[..., 1] = 200 - np.arange(side)[:, None]
    transform = still(16, scale=(0.7, 1.6), flip=0.5)
    shown = []
    for seed in range(400):
        pixels = transform(image, image[..., 0] * 0, seed)[0].numpy() * 255
        slope = float(np.diff(pixels[0], axis=1).mean())
        shown.append((1 / abs(slope), float(slope > 0), pixels[0].mean(), pixels[1].mean()))
    correlations = np.corrcoef(np.array(shown).T)
    assert np.abs(correlations[np.triu_indices(4, 1)]).max() < 0.2  # of 400 independent pairs: 0.05


def test_scale_factors_spread_over_the_whole_range():
    ids = np.zeros((40, 40), np.uint8)
    sides = []
    for seed in range(100):
        _, mask = still(100, scale=(0.5, 2.0))(coloured(ids), ids, seed)
        sides.append(int((mask == 0).any(0).sum()))
    assert min(sides) >= 20
    assert max(sides) <= 80
    assert min(sides) < 26
    assert max(sides) > 74


def test_long_side_comes_before_the_random_scale():
    ids = np.zeros((50, 100), np.uint8)
    for scale, size in ((1.0, (20, 40)), (1.5, (30, 60))):
        _, mask = still(90, long_side=40, scale=(scale, scale))(coloured(ids), ids, 0)
        rows, columns = np.nonzero(mask.numpy() == 0)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == size


def test_no_transform_makes_up_an_id():
    """Void is 255, and halfway between 255 and 0 lies no class: ids are chosen, never mixed."""
    ids = np.random.default_rng(0).choice([0, 3, 20, 255], (37, 53)).astype(np.uint8)  # an edge at every pixel
    for seed in range(40):
        transform = still(48, long_side=61 if seed % 2 else None, scale=(0.5, 2.0), flip=0.5, colour=0.3)
        _, mask = transform(coloured(ids), ids, seed)
        assert mask.dtype == torch.uint8
        assert set(mask.unique().tolist()) <= {0, 3, 20, 255}
        assert (mask != 255).any()


def test_colour_jitter_changes_the_image_and_not_the_mask():
    ids, image = blocks(24, 24, side=6), np.random.default_rng(0).integers(60, 190, (24, 24, 3), dtype=np.uint8)
    distances = []
    for seed in range(20):
        pixels, mask = still(24, colour=0.3)(image, ids, seed)
        np.testing.assert_array_equal(mask, ids)
        distances.append(np.abs(to_uint8(pixels).astype(int) - image).mean())
    assert 10 <= sum(distance > 2 for distance in distances) <= 19  # four images of five


def test_result_depends_on_the_seed_alone():
    ids = blocks(60, 80, side=5)
    options = {"scale": (0.5, 2.0), "flip": 0.5, "colour": 0.3}
    transform = still(48, **options)
    first = [transform(coloured(ids), ids, seed) for seed in range(6)]
    np.random.seed(5)  # noqa: NPY002  # the global generators must not matter
    torch.rand(3)
    transform(coloured(ids[:20]), ids[:20], 77)
    for seed in reversed(range(6)):
        for other in (transform, still(48, **options)):
            pixels, mask = other(coloured(ids), ids, seed)
            assert torch.equal(pixels, first[seed][0])
            assert torch.equal(mask, first[seed][1])
    assert len({pixels.numpy().tobytes() for pixels, _ in first}) == 6
    assert len({mask.numpy().tobytes() for _, mask in first}) == 6


def test_inputs_are_left_as_they_were():
    ids = blocks(30, 40, side=5)
    image, before = coloured(ids), coloured(ids)
    still(48, scale=(0.5, 2.0), flip=1.0, colour=0.5)(image, ids, 0)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(ids, blocks(30, 40, side=5))


@pytest.mark.parametrize(
    ("long_side", "size", "expected"),
    [(None, (37, 53), (37, 53)), (100, (200, 100), (100, 50)), (100, (75, 300), (25, 100)), (100, (40, 50), (80, 100))],
)
def test_evaluation_shows_the_whole_image_at_its_own_size_or_at_the_long_side(long_side, size, expected):
    ramp = np.linspace(0, 250, size[1])[None, :, None].repeat(size[0], 0).repeat(3, 2).astype(np.uint8)
    pixels = EvalTransform(long_side, **AS_IS)(ramp)
    assert pixels.shape == (3, *expected)
    np.testing.assert_allclose(pixels[0, 0], np.linspace(0, 250 / 255, expected[1]), atol=0.03)  # nothing was cut off


@pytest.mark.parametrize("long_side", [None, 33, 90])
def test_scaling_on_its_own_changes_no_bit_of_the_whole_chain(long_side):
    """albumentations' own scaling and then the other steps."""
    transform = TrainTransform(40, long_side, (0.5, 2.0), flip=0.5, colour=0.4, mean=MEAN, std=STD)
    ids = blocks(60, 75, side=4)
    scaling = A.LongestMaxSize(max_size=long_side, interpolation=1, mask_interpolation=6) if long_side else A.NoOp()
    first, rest = A.Compose([scaling]), A.Compose(transform.compose.transforms)
    for seed in range(40):
        pixels, target = transform(coloured(ids), ids, seed)
        scaled = first(image=coloured(ids), mask=ids)
        rest.set_random_state(np.random.default_rng(seed), random.Random(seed))
        expected = rest(**scaled)
        np.testing.assert_array_equal(pixels, expected["image"].transpose(2, 0, 1))
        np.testing.assert_array_equal(target, expected["mask"])


def test_an_unknown_augmentation_fails(compose_config):
    with pytest.raises(ConfigError, match=r"recipe\.augmentation\.rotate: nothing reads this key"):
        compose_config("+recipe.augmentation.rotate=10")


def test_albumentations_knows_every_argument_that_it_is_given():
    """It ignores what it does not know with no more than a warning; padding once became class 0 that way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        still(32, long_side=40, scale=(0.5, 2.0), flip=0.5, colour=0.3)
        EvalTransform(40, **AS_IS)
