"""Effects against plain readings of their definitions: orders one by one, a regression, differences written out."""

from itertools import combinations, permutations, product

import numpy as np
import pytest

from exfuse.analysis.effects import FactorialEffects, Subset, factorial_effects, interaction, main_effect, shapley_value
from exfuse.analysis.resampling import Interval
from exfuse.metrics.iou import mean_iou
from tests.analysis.resampled import Counts, additive, contrast

FACTORS = ("ss", "seb", "ecre")
SUBSETS = [frozenset(chosen) for size in range(4) for chosen in combinations(FACTORS, size)]
GAIN = {"ss": 0.08, "seb": 0.04, "ecre": 0.0}


def made_up(quality: float, seed: int) -> Counts:
    pixels = np.random.default_rng(7).integers(20, 500, (25, 3))
    rng = np.random.default_rng(seed)
    noisy = (quality * np.eye(3) + (1 - quality) / 3) * rng.gamma(20, size=(25, 3, 3))
    return rng.multinomial(pixels, noisy / noisy.sum(-1, keepdims=True))


@pytest.fixture(scope="module")
def cells() -> dict[Subset, dict[int, Counts]]:
    """SS and SEB help, and SEB helps more on top of SS."""
    found: dict[Subset, dict[int, Counts]] = {}
    for index, subset in enumerate(SUBSETS):
        quality = 0.6 + sum(GAIN[factor] for factor in subset) + 0.05 * ({"ss", "seb"} <= subset)
        found[subset] = {seed: made_up(quality, 10 * index + seed) for seed in (0, 1, 2)}
    return found


@pytest.fixture(scope="module")
def scores(cells) -> dict[Subset, float]:
    return {
        subset: float(np.mean([mean_iou(counts.sum(0)) for counts in by_seed.values()])) for subset, by_seed in cells.items()
    }


@pytest.fixture(scope="module")
def effects(cells) -> FactorialEffects:
    return factorial_effects(additive(cells), FACTORS, resamples=300)


def by_orders(factor: str, factors: tuple[str, ...], scores: dict[Subset, float]) -> float:
    """Shapley value by its definition: techniques enter one by one, in every order."""
    gains = []
    for order in permutations(factors):
        before = frozenset(order[: order.index(factor)])
        gains.append(scores[before | {factor}] - scores[before])
    return sum(gains) / len(gains)


def test_shapley_values_are_mean_gains_over_all_orders(effects, scores):
    for factor in FACTORS:
        assert effects.shapley[factor].estimate == pytest.approx(by_orders(factor, FACTORS, scores), abs=1e-13)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_shapley_weights_equal_the_orders_for_any_number_of_techniques(k):
    factors = tuple("abcde"[:k])
    rng = np.random.default_rng(k)
    scores = {frozenset(c): rng.random() for size in range(k + 1) for c in combinations(factors, size)}
    total = 0.0
    for factor in factors:
        weights = shapley_value(factor, factors)
        value = sum(weight * scores[subset] for subset, weight in weights.items())
        assert value == pytest.approx(by_orders(factor, factors, scores), abs=1e-13)
        total += value
    assert total == pytest.approx(scores[frozenset(factors)] - scores[frozenset()], abs=1e-13)


def test_shapley_values_add_up_to_all_techniques_minus_none(effects, scores):
    total = scores[frozenset(FACTORS)] - scores[frozenset()]
    assert effects.total.estimate == pytest.approx(total, abs=1e-14)
    assert sum(value.estimate for value in effects.shapley.values()) == pytest.approx(total, abs=1e-14)


def test_main_effects_and_interactions_are_coefficients_of_a_regression_on_plus_and_minus_one(effects, scores):
    """Columns: 1, the factors as -1 and +1, their products. From -1 to +1 are two units, and four for a difference of two."""
    signs = np.array([[1 if factor in subset else -1 for factor in FACTORS] for subset in SUBSETS])
    pairs = list(combinations(range(3), 2))
    products = [signs[:, i] * signs[:, j] for i, j in pairs]
    design = np.column_stack([np.ones(8), signs, *products, signs.prod(1)])
    fitted, *_ = np.linalg.lstsq(design, np.array([scores[subset] for subset in SUBSETS]), rcond=None)
    np.testing.assert_allclose([effects.main[factor].estimate for factor in FACTORS], 2 * fitted[1:4], atol=1e-13)
    expected = {(FACTORS[i], FACTORS[j]): 4 * value for (i, j), value in zip(pairs, fitted[4:7], strict=True)}
    assert list(effects.interactions) == list(expected)
    for pair, value in expected.items():
        assert effects.interactions[pair].estimate == pytest.approx(value, abs=1e-13)


def test_an_interaction_is_how_much_more_one_gains_when_the_other_is_on():
    weights = interaction("a", "b", ("a", "b"))
    assert weights == {frozenset("ab"): 1, frozenset("a"): -1, frozenset("b"): -1, frozenset(): 1}
    assert main_effect("a", ("a", "b")) == {frozenset("ab"): 0.5, frozenset("a"): 0.5, frozenset("b"): -0.5, frozenset(): -0.5}


def test_intervals_are_those_of_the_contrast_written_out(effects, cells):
    named = {"+".join(sorted(subset)): by_seed for subset, by_seed in cells.items()}
    weights = {"+".join(sorted(subset)): (1 if "seb" in subset else -1) / 4 for subset in cells}
    alone = contrast(named, weights, resamples=300)
    np.testing.assert_allclose(effects.main["seb"][:4], alone[:4], rtol=1e-9)
    assert alone[4:7] == effects.main["seb"][4:7] == (3, 25, "seeds and images")


def test_what_was_put_in_is_found(effects):
    def excludes_zero(interval: Interval) -> bool:
        return not interval.low <= 0 <= interval.high

    assert excludes_zero(effects.main["ss"])
    assert effects.main["ss"].estimate > effects.main["seb"].estimate > abs(effects.main["ecre"].estimate)
    assert effects.interactions["ss", "seb"].estimate > 0.02
    assert excludes_zero(effects.total)


def test_without_interactions_shapley_values_equal_main_effects():
    scores = {
        s: sum({"a": 0.1, "b": -0.2, "c": 0.4}[f] for f in s)
        for size in range(4)
        for s in map(frozenset, combinations("abc", size))
    }
    for factor, rule in product("abc", (main_effect, shapley_value)):
        value = sum(weight * scores[subset] for subset, weight in rule(factor, tuple("abc")).items())
        assert value == pytest.approx({"a": 0.1, "b": -0.2, "c": 0.4}[factor])


def test_one_technique_has_no_interaction_and_its_effects_are_its_difference(cells):
    two = {subset: cells[subset] for subset in (frozenset(), frozenset({"ss"}))}
    effects = factorial_effects(additive(two), ["ss"], resamples=50)
    assert effects.interactions == {}
    assert effects.main["ss"] == effects.shapley["ss"] == effects.total
