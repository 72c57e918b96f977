import subprocess
import sys
import time
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from exfuse.analysis import draws as draws_module
from exfuse.analysis.draws import draws
from exfuse.analysis.noise import Noise
from exfuse.analysis.resampling import OneGroupError, Resampled
from exfuse.errors import UserError
from exfuse.metrics.iou import mean_iou
from exfuse.metrics.means import Means
from exfuse.store.grouping import Grouping
from tests.analysis.resampled import Counts, additive, contrast, difference
from tests.pace import processor

IMAGES, CLASSES = 30, 4


def made_up(quality: float, seed: int, images: int = IMAGES, classes: int = CLASSES) -> Counts:
    """Counts of a model that is right for about ``quality`` of the pixels of every image; the truth is the same for all."""
    truth = np.random.default_rng(7)
    pixels = truth.integers(1, 500, (images, classes)) * (truth.random((images, classes)) < 0.6)
    pixels[:, 0] += 100
    rng = np.random.default_rng(seed)
    shares = quality * np.eye(classes) + (1 - quality) / classes
    noisy = shares * rng.gamma(20, size=(images, classes, classes))
    return rng.multinomial(pixels, noisy / noisy.sum(-1, keepdims=True))


def alone(images: int) -> list[np.ndarray]:
    """One sequence of so many units, drawn one by one."""
    return [np.arange(images)]


def half_width(images: float, images_freedom: float, seeds: float, seeds_freedom: float, p: float) -> float:
    """The documented formula of `Noise`, in plain numbers."""
    quantiles = [
        (stats.t.ppf(1 - p / 2, freedom), variance) for freedom, variance in ((images_freedom, images), (seeds_freedom, seeds))
    ]
    (a, y), (b, x) = sorted(quantiles)
    m = max(1, b**2 / a**2 - 1)
    return float((a**2 * (x + y) + (b**2 - a**2) * x * m * x / (m * x + y)) ** 0.5)


def one_by_one(counts: Counts, resamples: int, seed: int) -> np.ndarray:
    """mIoU of each resample, image by image and class by class."""
    scores = []
    for drawn in np.concatenate(list(draws(alone(len(counts)), resamples, seed))):
        total = np.zeros(counts.shape[1:], int)
        for image, times in enumerate(drawn):
            for _ in range(int(times)):
                total += counts[image]
        ious = []
        for c in range(len(total)):
            if total[c].sum():
                ious.append(total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]))
        scores.append(sum(ious) / len(ious))
    return np.array(scores)


SEEDS = {"row": (0, 1, 2), "base": (0, 1, 2), "more": (1, 2, 5, 8)}


@pytest.fixture(scope="module")
def cells() -> dict[str, dict[int, Counts]]:
    quality = {"row": 0.75, "base": 0.7, "more": 0.72}
    return {
        cell: {seed: made_up(quality[cell] + 0.01 * seed, 10 * index + seed) for seed in seeds}
        for index, (cell, seeds) in enumerate(SEEDS.items())
    }


def test_one_seed_equals_a_plain_loop_over_the_resamples(cells):
    row, base = cells["row"][0], cells["base"][0]
    of_images = np.std(one_by_one(row, 200, 3) - one_by_one(base, 200, 3), ddof=1)
    estimate = mean_iou(row.sum(0)) - mean_iou(base.sum(0))
    interval = difference({0: row}, {0: base}, resamples=200, seed=3)
    assert interval.estimate == pytest.approx(estimate, abs=1e-14)
    error = of_images * (IMAGES / (IMAGES - 1)) ** 0.5
    t = stats.t.ppf(0.975, IMAGES - 1)
    np.testing.assert_allclose(interval[1:3], [estimate - t * error, estimate + t * error], rtol=1e-10)
    assert interval.p_value == pytest.approx(2 * stats.t.sf(abs(estimate) / error, IMAGES - 1), rel=1e-9)
    assert interval[4:7] == (1, IMAGES, "images")


def test_several_seeds_equal_the_documented_formula_in_plain_loops(cells):
    weights = {"row": 1.0, "base": -0.25, "more": -0.75}
    shared = (1, 2)
    per_seed = [sum(w * float(mean_iou(cells[cell][s].sum(0))) for cell, w in weights.items()) for s in shared]
    resampled = np.array([sum(w * one_by_one(cells[cell][s], 150, 0) for cell, w in weights.items()) for s in shared])
    images = np.var(resampled.mean(0), ddof=1)
    spread = np.mean([np.var(resampled[:, r] - per_seed, ddof=1) for r in range(150)])
    a, b = images - spread / 2, np.var(per_seed, ddof=1) / 2
    assert a > images / 16
    half = half_width(a * IMAGES / (IMAGES - 1), IMAGES - 1, b, 1, 0.1)
    estimate = np.mean(per_seed)
    interval = contrast(cells, weights, resamples=150, level=0.9)
    np.testing.assert_allclose(interval[:3], [estimate, estimate - half, estimate + half], rtol=1e-9)
    assert interval[4:7] == (2, IMAGES, "seeds and images")


def test_seeds_that_agree_by_luck_do_not_undercut_a_quarter_of_the_interval_of_the_images():
    """Two seeds whose differences are the same, though each depends on the images in its own way."""
    counts = np.zeros((2, 40, 2, 2), np.int64)
    counts[:, :, 0, 0] = counts[:, :, 1, 1] = 100
    base = {0: counts[0], 1: counts[1]}
    row = {seed: one.copy() for seed, one in base.items()}
    for seed in row:
        row[seed][seed::2, 0] = (60, 40)  # one seed is worse on the even images, the other on the odd ones
    interval = difference(row, base, resamples=500)
    images = np.std(np.mean([one_by_one(row[s], 500, 0) - one_by_one(base[s], 500, 0) for s in row], axis=0), ddof=1)
    least = 2 * stats.t.ppf(0.975, 39) * images * (40 / 39) ** 0.5 / 4
    assert 0 < interval.high - interval.low == pytest.approx(least, rel=1e-9)


def test_the_estimate_is_the_mean_over_seeds_of_the_dataset_miou(cells):
    resampled = Resampled(additive(cells), resamples=20)
    for cell, by_seed in cells.items():
        expected = np.mean([mean_iou(counts.sum(0)) for counts in by_seed.values()])
        interval = resampled.contrast({cell: 1})
        assert interval.estimate == pytest.approx(expected, abs=1e-14)
        assert interval.seeds == len(by_seed)


@pytest.mark.parametrize("seeds", [1, 3])
def test_identical_rows_have_no_difference_no_width_and_no_evidence(cells, seeds):
    row = {seed: cells["row"][seed] for seed in range(seeds)}
    interval = difference(row, {seed: counts.copy() for seed, counts in row.items()}, resamples=100)
    assert interval[:4] == (0.0, 0.0, 0.0, 1.0)
    many = dict.fromkeys("abcdef", row)  # thirds and sixths do not add up to zero exactly
    weights = dict(zip("abcdef", (1 / 3, 1 / 3, 1 / 3, -1 / 6, -1 / 6, -2 / 3), strict=True))
    assert contrast(many, weights, resamples=100)[:4] == (0.0, 0.0, 0.0, 1.0)


def test_rows_exchanged_change_the_sign_alone(cells):
    one = difference(cells["row"], cells["base"], resamples=100)
    other = difference(cells["base"], cells["row"], resamples=100)
    np.testing.assert_allclose((-other.estimate, -other.high, -other.low, other.p_value), one[:4], rtol=1e-12)


@settings(max_examples=60)
@given(st.integers(1, 4), st.floats(0.5, 0.8), st.integers(0, 1000), st.sampled_from([0.8, 0.95, 0.99]))
def test_p_is_small_exactly_where_the_interval_leaves_out_zero(seeds, quality, start, level):
    row = {seed: made_up(quality, start + seed, images=12) for seed in range(seeds)}
    base = {seed: made_up(0.66, start + 50 + seed, images=12) for seed in range(seeds)}
    interval = difference(row, base, 60, level)
    assert (interval.p_value < 1 - level) == (not interval.low <= 0 <= interval.high)
    if interval.p_value < 1e-9:  # 1 - p is 1 then
        return
    at_p = difference(row, base, 60, 1 - interval.p_value)
    assert min(abs(at_p.low), abs(at_p.high)) < 1e-6


def test_a_class_that_a_resample_lacks_is_left_out_of_its_mean():
    counts = np.zeros((2, 2, 2), np.int64)
    counts[0] = [[6, 2], [0, 0]]  # IoU 6/8 of class 0, class 1 absent
    counts[1] = [[0, 0], [1, 3]]  # IoU 3/4 of class 1, class 0 absent
    both = np.array([6 / 9, 3 / 6]).mean()
    drawn = np.concatenate(list(draws(alone(2), 400, 0)))
    expected = np.where(drawn[:, 0] == 1, both, 0.75)
    interval = contrast({"a": {0: counts}}, {"a": 1}, resamples=400)
    half = stats.t.ppf(0.975, 1) * expected.std(ddof=1) * 2**0.5
    np.testing.assert_allclose(interval[:3], [both, both - half, both + half], rtol=1e-12)


def test_every_resample_draws_as_many_images_as_there_are_uniformly():
    drawn = np.concatenate(list(draws(alone(50), 4000, 0)))
    assert drawn.shape == (4000, 50)
    assert (drawn.sum(1) == 50).all()
    np.testing.assert_allclose(drawn.mean(0), 1, atol=5 * (1 / 4000) ** 0.5)
    np.testing.assert_allclose(drawn.var(), 1 - 1 / 50, rtol=0.02)  # of a binomial count
    assert (np.concatenate(list(draws(alone(50), 4000, 1))) != drawn).any()


def test_parts_bound_the_memory_and_change_no_number(cells, monkeypatch):
    whole = difference(cells["row"], cells["base"], resamples=101)
    monkeypatch.setattr(draws_module, "_DRAWS_AT_ONCE", 7 * IMAGES)
    assert [len(part) for part in draws(alone(IMAGES), 20, 0)] == [7, 7, 6]
    assert difference(cells["row"], cells["base"], resamples=101) == whole
    monkeypatch.setattr(draws_module, "_DRAWS_AT_ONCE", 1)  # more images than that
    assert difference(cells["row"], cells["base"], resamples=101) == whole


def test_contrasts_of_a_table_share_the_resamples_and_each_takes_the_seeds_of_its_own_cells(cells):
    resampled = Resampled(additive(cells), resamples=100, seed=4)
    assert resampled.contrast({"row": 1, "base": -1, "more": 0}) == difference(cells["row"], cells["base"], 100, seed=4)
    assert resampled.contrast({"row": 1, "base": -1}).seeds == 3
    assert resampled.contrast({"row": 1, "more": -1}).seeds == 2


def refusal(cells: Mapping[str, Mapping[int, Counts]], weights: Mapping[str, float] | None = None) -> str:
    with pytest.raises(UserError) as error:
        Resampled(additive(cells), resamples=10).contrast(weights or {"row": 1, "base": -1})
    return str(error.value)


def test_runs_that_cannot_be_compared_are_refused_by_name(cells):
    one = made_up(0.7, 0)

    def with_row(counts: Counts) -> dict[str, dict[int, Counts]]:
        return {"row": {0: one}, "base": {3: counts}}

    assert "base, seed 3 has 29 and 4" in refusal(with_row(one[:-1]))
    assert "row, seed 0 has 30 images and 4 classes, base, seed 3 has 30 and 5" in refusal(with_row(made_up(0.7, 0, classes=5)))
    assert "same order" in (message := refusal(with_row(one[::-1])))
    assert "base, seed 3 differ from those of row, seed 0, first in image 0" in message
    assert "row: 0; base: 3" in refusal(with_row(one))
    assert "common seed" in refusal(with_row(one))


def test_missing_runs_and_cells_are_named(cells):
    one = made_up(0.7, 0)
    assert "No finished run of base" in refusal({"row": {0: one}, "base": {}})
    assert "No variant" in refusal({})
    assert "No runs of bose" in (message := refusal(cells, {"row": 1, "bose": -1}))
    assert "row, base, more" in message
    assert "any cell" in refusal(cells, {"row": 0})


def test_images_that_cannot_be_resampled_are_refused():
    with pytest.raises(UserError, match="1 resamples"):
        Resampled(additive({"row": {0: made_up(0.7, 0)}}), resamples=1)
    assert "No labelled pixel" in refusal({"row": {0: np.zeros((5, 3, 3), np.int64)}})
    nearly_void = np.zeros((5, 3, 3), np.int64)
    nearly_void[0, 0, 0] = 1
    with pytest.raises(UserError, match="too few images are labelled"):
        contrast({"row": {0: nearly_void}}, {"row": 1}, resamples=100)


def test_a_single_image_says_nothing_of_others_and_seeds_alone_make_the_interval():
    rows = {name: {seed: made_up(quality, seed, images=1) for seed in (0, 1, 2)} for name, quality in (("a", 0.7), ("b", 0.6))}
    found = contrast(rows, {"a": 1, "b": -1}, resamples=100)
    assert (found.resampled, found.units.kind, found.images) == ("seeds", "nothing", 1)
    assert found.low < found.estimate < found.high
    with pytest.raises(OneGroupError):
        contrast({name: {0: runs[0]} for name, runs in rows.items()}, {"a": 1, "b": -1}, resamples=100)


def test_a_full_size_comparison_takes_less_than_three_seconds():
    """10,000 resamples of VOC val's 1,449 images and 21 classes, two rows; processor time, as other processes may run."""
    row, base = ({0: made_up(quality, seed, images=1449, classes=21)} for seed, quality in ((0, 0.7), (1, 0.72)))
    start = time.process_time()
    interval = difference(row, base)
    taken = time.process_time() - start
    assert taken < processor(3, taken)
    assert 0 < interval.high - interval.low < 0.02


def test_importing_the_analysis_loads_neither_torch_nor_hydra():
    modules = "exfuse.analysis.effects, exfuse.analysis.comparisons"
    code = f"import sys, {modules}; print({{'torch', 'hydra', 'scipy.stats'}} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()"


@pytest.mark.parametrize("freedom", [0.3, 0.64, 1.0, 1.4545, 2.0645, 2.1801, 2.2882, 2.3608, 4.5, 30.3, np.inf])
@pytest.mark.parametrize("p_value", [0.9, 0.05, 1e-3, 1e-9, 1e-30])
def test_p_is_where_the_interval_just_reaches_zero_whatever_the_degrees_of_freedom(freedom, p_value):
    for noise in (Noise(0.3, freedom, 0.8, 2.0), Noise(0.3, freedom, 0.0, 0.0)):
        assert noise.p_value(float(noise.half_width(p_value))) == pytest.approx(p_value, rel=1e-6)


@pytest.mark.parametrize("groups", [(200, 100), (300, 60, 60), (100, 1)])
def test_one_seed_of_few_unequal_groups_finds_nothing_where_nothing_is(groups):
    """Their spread is known by less than one degree of freedom, so that quantiles may be beyond all numbers."""
    ids = np.repeat(np.arange(len(groups)), groups)
    grouping = Grouping(tuple(f"group {number}" for number in ids))
    for draw in range(20):
        rng = np.random.default_rng(draw)
        cells = {name: {0: Means(rng.normal(0.5, 0.1, len(ids)) + rng.normal(0, 0.05, len(groups))[ids])} for name in "ab"}
        found = Resampled(cells, 500, grouping=grouping).contrast({"a": 1, "b": -1})
        assert found.high >= found.low
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
        assert found.p_value > 0.05
