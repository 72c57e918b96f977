"""Bands, interiors and boundary IoU against brute force: every pixel against every other."""

import itertools
import math

import cv2
import numpy as np
import pytest

from exfuse.metrics.boundary import (
    border_distance,
    boundary_region,
    boundary_width,
    count_image,
    fill_void,
    find_edges,
)
from exfuse.metrics.boundary_areas import RADII

VOID = 255
CLASSES = 4
SIZES = [(9, 12), (17, 8), (1, 7), (6, 1), (1, 1)]


def count_areas(*given, **more):
    return count_image(*given, **more).areas


def random_mask(seed: int, height: int, width: int, void: float = 0.1) -> np.ndarray:
    """Regions of a few pixels' size with scattered and contiguous void."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, CLASSES, (height // 4 + 1, width // 4 + 1)).astype(np.uint8)
    mask = coarse.repeat(4, 0).repeat(4, 1)[:height, :width].copy()
    mask[rng.random(mask.shape) < void] = VOID
    if seed % 2:
        mask[height // 3 : height // 2] = VOID
    return mask


def nearest(mask: np.ndarray, row: int, column: int, wanted: np.ndarray) -> float:
    """Distance from one pixel to the nearest of those that are wanted, looked at one by one."""
    found = [math.hypot(row - y, column - x) for y, x in itertools.product(*map(range, mask.shape)) if wanted[y, x]]
    return min(found, default=math.inf)


def areas_one_by_one(predicted, truth, chosen):
    hit, true, guessed = np.zeros((3, CLASSES), int)
    for y, x in itertools.product(*map(range, truth.shape)):
        if truth[y, x] != VOID and chosen[y, x]:
            true[truth[y, x]] += 1
            guessed[predicted[y, x]] += 1
            hit[truth[y, x]] += truth[y, x] == predicted[y, x]
    return hit, true, guessed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_to_the_nearest_pixel_with_another_label(seed, size):
    mask = random_mask(seed, *size)
    expected = [[nearest(mask, y, x, mask != mask[y, x]) for x in range(size[1])] for y in range(size[0])]
    np.testing.assert_allclose(border_distance(mask), np.where(mask == VOID, np.inf, expected), rtol=1e-6)


def test_edges_do_not_depend_on_where_distances_lie_in_memory(monkeypatch):
    """OpenCV's do, in the last bit, which must not decide between labels that are equally near."""
    truth = random_mask(1, 300, 400)
    truth[40:260, 60:340] = VOID
    measure, rng = cv2.distanceTransform, np.random.default_rng(0)

    def measure_somewhere(source, *arguments):
        offset = rng.integers(16)
        room = np.empty(source.size + offset, np.float32)[offset:].reshape(source.shape)
        return measure(source, *arguments, dst=room)

    monkeypatch.setattr(cv2, "distanceTransform", measure_somewhere)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as in a loader worker; several threads part the rows otherwise
    found = [tuple(np.asarray(part).tobytes() for part in (fill_void(truth), *find_edges(truth))) for _ in range(16)]
    cv2.setNumThreads(threads)
    assert len(set(found)) == 1
    whole = border_distance(truth)[truth != VOID].astype(np.float64) ** 2
    np.testing.assert_allclose(whole, np.rint(whole), rtol=1e-6)
    rings = [np.rint(whole) > radius**2 for radius in RADII]
    np.testing.assert_array_equal(find_edges(truth).ring[truth != VOID], np.sum(rings, 0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_bands_and_interiors_equal_brute_force(seed, size):
    radii = (1, 2, 3, 5)
    truth, predicted = random_mask(seed, *size), random_mask(seed + 10, *size, void=0)
    predicted[predicted == VOID] = 0
    areas = count_areas(predicted, truth, find_edges(truth, radii), CLASSES, rings=5)
    for number, radius in enumerate(radii, 1):
        near = np.zeros(size, bool)
        for y, x in itertools.product(*map(range, size)):
            near[y, x] = nearest(truth, y, x, truth != truth[y, x]) <= radius
        band = areas_one_by_one(predicted, truth, near)
        interior = areas_one_by_one(predicted, truth, ~near)
        np.testing.assert_array_equal([area[:number].sum(0) for area in areas], band)
        np.testing.assert_array_equal([area[number:5].sum(0) for area in areas], interior)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_void_takes_the_label_of_the_nearest_labelled_pixel(seed, size):
    mask = random_mask(seed, *size, void=0.3)
    completed = fill_void(mask)
    np.testing.assert_array_equal(completed[mask != VOID], mask[mask != VOID])
    for y, x in zip(*np.nonzero(mask == VOID), strict=True):
        if (mask == VOID).all():
            assert completed[y, x] == VOID
        else:
            at = {label: nearest(mask, y, x, mask == label) for label in range(CLASSES)}
            assert completed[y, x] == min(at, key=lambda label: (at[label], label))


def eroded_contour(mask: np.ndarray, width: int) -> np.ndarray:
    """Boundary region of a binary mask, as the authors of boundary IoU describe it: padded by nothing, eroded d times."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return mask & (cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1] == 0)


@pytest.mark.parametrize("width", [1, 2, 4, 20])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_boundary_regions_of_all_classes_at_once_are_those_of_each_mask(seed, size, width):
    ids = random_mask(seed, *size)
    region = boundary_region(ids, width)
    for id in np.unique(ids):
        np.testing.assert_array_equal(region & (ids == id), eroded_contour(ids == id, width))


@pytest.mark.parametrize("seed", range(4))
def test_boundary_iou_equals_its_definition_by_sets(seed):
    truth, predicted = random_mask(seed, 60, 45), random_mask(seed + 20, 60, 45, void=0)
    predicted[predicted == VOID] = 1
    areas = count_areas(predicted, truth, find_edges(truth), CLASSES)
    width, known = round(0.02 * 75), truth != VOID
    assert boundary_width(60, 45) == width
    whole = fill_void(truth)
    for label in range(CLASSES):
        true = eroded_contour(whole == label, width) & known
        guessed = eroded_contour(predicted == label, width) & known
        expected = (true & guessed).sum() / (true | guessed).sum() if true.any() else np.nan
        np.testing.assert_allclose(areas.iou()[-1, label], expected, rtol=1e-12)


def test_a_void_contour_is_a_border_and_the_band_starts_beside_it():
    """Background, five columns of void, an object: the band of 1 px is the column on either side of the contour."""
    truth = np.zeros((10, 25), np.uint8)
    truth[:, 10:15], truth[:, 15:] = VOID, 1
    areas = count_areas(truth % VOID, truth, find_edges(truth), 2)
    assert areas.true[0].tolist() == [10, 10]
    assert areas.true[1].tolist() == [10, 10]
    assert areas.true[:-1].sum(0).tolist() == [100, 100]
    assert boundary_width(10, 25) == 1
    halves = fill_void(truth)
    assert (halves[:, :13] == 0).all()
    assert (halves[:, 13:] == 1).all()


def test_a_perfect_prediction_has_perfect_boundaries_even_through_a_void_contour():
    truth = np.zeros((300, 400), np.uint8)
    cv2.circle(truth, (200, 150), 80, 3, -1)
    whole = truth.copy()
    cv2.circle(truth, (200, 150), 80, VOID, 5)
    areas = count_areas(fill_void(truth), truth, find_edges(truth), CLASSES)
    np.testing.assert_array_equal(areas.iou()[-1], [1, np.nan, np.nan, 1])
    assert areas.mean_iou().tolist()[-1] == 1
    nearly = count_areas(whole, truth, find_edges(truth), CLASSES)
    assert nearly.mean_iou()[-1] > 0.9


def test_an_error_inside_lowers_the_interior_and_one_at_the_edge_the_band():
    truth = np.zeros((200, 200), np.uint8)
    truth[50:150, 50:150] = 1
    edges = find_edges(truth)
    hole, grown = truth.copy(), truth.copy()
    hole[90:110, 90:110] = 0
    grown[48:152, 48:152] = 1
    band, interior = slice(0, RADII.index(5) + 1), slice(RADII.index(5) + 1, -1)

    def score(predicted, rings):
        areas = count_areas(predicted, truth, edges, 2)
        return type(areas)(*(area[rings].sum(0) for area in areas)).mean_iou()

    assert score(hole, band) == score(grown, interior) == 1
    assert score(hole, interior) < 1
    assert score(grown, band) < 1


def test_masks_without_any_border_or_label_are_all_interior_or_nothing():
    plain = np.full((20, 30), 2, np.uint8)
    areas = count_areas(plain, plain, find_edges(plain), CLASSES)
    assert areas.true[:-2].sum() == 0
    assert areas.true[-2].tolist() == [0, 0, 600, 0]
    assert areas.true[-1, 2] == 600 - 18 * 28  # the image's edge is a contour of boundary IoU
    void = np.full((20, 30), VOID, np.uint8)
    assert not any(area.any() for area in count_areas(plain, void, find_edges(void), CLASSES))


def test_all_ids_that_a_mask_can_hold_are_counted_apart():
    truth = np.arange(255, dtype=np.uint8).reshape(15, 17)
    areas = count_areas(truth[::-1], truth, find_edges(truth), 255)
    assert (areas.true[:-1].sum(0) == 1).all()
    assert (areas.predicted[:-1].sum(0) == 1).all()
    assert areas.hit[:-1].sum() == 17
