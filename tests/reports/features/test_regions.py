"""Cells of a map at borders and inside, against loops over pixels."""

import math

import numpy as np
import pytest

from exfuse.reports.features.statistics import find_borders, scale_to

VOID = 255


def rectangle(place: int, cells: int, pixels: int) -> slice:
    """Pixels that a cell stands for; where the ratio is no whole number, those that it touches."""
    return slice(place * pixels // cells, math.ceil((place + 1) * pixels / cells))


@pytest.mark.parametrize(
    ("pixels", "cells"), [((24, 32), (6, 8)), ((25, 33), (7, 9)), ((61, 47), (4, 3)), ((5, 7), (5, 7)), ((9, 9), (1, 1))]
)
@pytest.mark.parametrize("band", [0, 2])
def test_cells_are_what_loops_over_their_pixels_say(pixels: tuple[int, int], cells: tuple[int, int], band: int) -> None:
    generator = np.random.default_rng(sum(pixels) + band)
    truth = np.kron(generator.integers(0, 3, (4, 4)), np.ones((16, 16)))[: pixels[0], : pixels[1]].astype(np.uint8)
    regions = scale_to(find_borders(truth, band), cells)
    edges = [
        (row, column)
        for row in range(pixels[0])
        for column in range(pixels[1])
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0))
        if 0 <= row + down < pixels[0] and 0 <= column + right < pixels[1]
        if truth[row, column] != truth[row + down, column + right]
    ]
    for i in range(cells[0]):
        for j in range(cells[1]):
            part = (rectangle(i, cells[0], pixels[0]), rectangle(j, cells[1], pixels[1]))
            inside = [(row, column) for row in range(pixels[0])[part[0]] for column in range(pixels[1])[part[1]]]
            near = any(math.dist(pixel, edge) <= band for pixel in inside for edge in edges)
            assert bool(regions.band[i, j]) == near
            numbers = np.bincount(truth[part].ravel())
            assert numbers[int(regions.classes[i, j])] == numbers.max()


def test_a_thin_line_of_void_is_filled_and_its_middle_is_the_edge() -> None:
    truth = np.zeros((8, 21), np.uint8)
    truth[:, 8:13] = VOID  # five pixels wide, as VOC draws its borders
    truth[:, 13:] = 3
    borders = find_borders(truth, band=5)
    assert set(np.unique(borders.ids)) == {0, 3}
    assert set(np.nonzero(borders.edges)[1]) <= {9, 10, 11}
    assert borders.edges.any()


def test_wide_void_stays_out() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[:, 10:] = VOID
    regions = scale_to(find_borders(truth, band=3), (4, 4))
    assert (regions.classes[:, 0] == 0).all()
    assert (regions.classes[:, 2:] == VOID).all()
    assert not regions.band.any()  # void is no class that could meet another
    assert not regions.labelled[:, 2:].any()


def test_an_image_of_one_class_or_of_none_has_no_edge() -> None:
    for id in (4, VOID):
        borders = find_borders(np.full((9, 11), id, np.uint8), band=2)
        regions = scale_to(borders, (3, 4))
        assert not borders.edges.any()
        assert not regions.band.any()
        assert (regions.classes == id).all()
        assert bool(regions.named()["interior"].any()) == (id != VOID)
