"""Arrays of pictures: one basis and one scale for before and after."""

import numpy as np
import pytest
import torch

from exfuse.reports.features.drawing import gradient, level_view, principal_colours
from exfuse.reports.features.taps import Tapped


@pytest.mark.parametrize("shape", [(8, 6, 7), (2, 5, 5), (1, 1, 1), (3, 1, 9)])
def test_equal_features_have_equal_colours(shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(size=shape)
    one, other = principal_colours(before, before)
    np.testing.assert_array_equal(one, other)
    assert one.shape == (*shape[1:], 3)
    moved = before + generator.normal(size=shape)
    moved[:, 0, 0] = before[:, 0, 0]
    one, other = principal_colours(before, moved)
    np.testing.assert_array_equal(one[0, 0], other[0, 0])
    assert one.min() >= 0
    assert other.max() <= 1


def test_the_first_component_is_the_direction_of_most_variance() -> None:
    generator = np.random.default_rng(0)
    strong, weak = generator.normal(size=(10, 10)), generator.normal(size=(10, 10))
    before = np.stack([0.1 * weak, 5 * strong, 0 * weak])
    red = principal_colours(before, before)[0][..., 0]
    assert np.corrcoef(red.ravel(), strong.ravel())[0, 1] > 0.95


def test_a_ramps_gradient_is_its_slope() -> None:
    rows, columns = np.mgrid[:6, :5]
    np.testing.assert_allclose(gradient(3.0 * rows + 4.0 * columns), 5)
    np.testing.assert_allclose(gradient(2.0 * columns[:1]), 2)
    assert gradient(np.ones((1, 1))).tolist() == [[0]]


def test_the_channels_of_largest_change_are_shown_and_zeros_leave_no_infinite_change() -> None:
    before = torch.zeros(6, 4, 4)
    before[:, 1:] = 1
    after = before.clone()
    after[4] += 3
    after[1] -= 2
    after[5] += 1
    shown = level_view(Tapped(2, before, after, "addend", after - before))
    assert [pair.title for pair in shown.channels] == ["channel 4", "channel 1", "channel 5"]
    assert np.isnan(shown.change[0]).all()  # energy 0 before
    assert np.isfinite(shown.change[1:]).all()
    np.testing.assert_allclose(shown.energy.after, np.linalg.norm(after.numpy(), axis=0), rtol=1e-6)
    assert shown.energy.low == 0
    assert shown.branch is not None
    assert shown.branch[0, 0] == pytest.approx(2 / 6)
