import numpy as np
import pytest
from hypothesis import given, strategies as st

from exfuse.analysis.comparisons import holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def rejected_step_by_step(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure as he states it: from the smallest up, stop at the first that is not below its share of the level."""
    rejected: set[int] = set()
    while len(rejected) < len(p_values):
        left = [i for i in range(len(p_values)) if i not in rejected]
        smallest = min(left, key=lambda i: p_values[i])
        if p_values[smallest] * len(left) > level:
            break
        rejected.add(smallest)
    return rejected


@given(P_VALUES)
def test_adjusted_values_are_the_levels_at_which_holms_procedure_begins_to_reject(p_values):
    adjusted = holm(p_values)
    for level in {*adjusted, *(p / 2 for p in adjusted), 0.05}:
        if level < 1:  # everything is rejected at level 1
            assert {i for i, p in enumerate(adjusted) if p <= level} == rejected_step_by_step(p_values, level)


def test_a_worked_example():
    # 4 * 0.005, 3 * 0.01, then 2 * 0.03 lifts 0.04, which 1 * 0.04 would leave below it
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], rtol=1e-12)


@given(P_VALUES)
def test_adjusting_raises_keeps_the_order_and_stays_a_probability(p_values):
    adjusted = holm(p_values)
    assert all(raw <= p <= 1 for raw, p in zip(p_values, adjusted, strict=True))
    in_order = [p for _, p in sorted(zip(p_values, adjusted, strict=True))]
    assert in_order == sorted(in_order)


@given(st.data(), P_VALUES)
def test_the_order_of_the_comparisons_does_not_matter(data, p_values):
    order = data.draw(st.permutations(range(len(p_values))))
    assert holm([p_values[i] for i in order]) == [holm(p_values)[i] for i in order]


def test_one_comparison_needs_no_adjustment_and_none_gives_none():
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        holm([0.5, wrong])
