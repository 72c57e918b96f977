"""Sequential studies: false alarms of the whole procedure, which comparison gets the next seed, what a look may spend."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from exfuse.analysis.noise import Noise
from exfuse.analysis.sequential import ALPHA, Deciding, level, sequential_p, spent_share
from exfuse.store.sequential import DIFFERENT, SMALLER, Rule
from tests.analysis.sequential_simulation import EFFECTS, REGIMES, ROWS, as_good, sequential, table
from tests.sharing import FULL, amount

TABLE_HEAD = next(table(0))
STUDIES = amount(2_000, 20_000)
CHAIN = Rule(seeds=[3, 1, 4, 5], first=2, pairs=[("b", "a"), ("c", "b"), ("d", "a")], size=1.0)


@pytest.mark.parametrize("name", amount([*REGIMES][::2], [*REGIMES]))
def test_a_whole_study_raises_a_false_alarm_in_one_of_twenty_at_most(name):
    found = sequential(REGIMES[name], STUDIES, seed=1)
    chance = 2 * (0.05 * 0.95 / STUDIES) ** 0.5 if STUDIES < 20_000 else 0
    assert found.wrong <= 0.055 + chance


def test_the_docs_show_what_the_simulation_prints():
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text().splitlines()
    shown = page[page.index(TABLE_HEAD) :][: 2 + len(REGIMES) + len(EFFECTS)]
    found = [[cell.strip(" %") for cell in line.strip("|").split("|")] for line in shown[2:]]
    assert [name for name, *_ in found] == [*REGIMES, *EFFECTS]
    assert all(float(alarms) <= 5.5 for _, alarms, *_ in found)
    if FULL:  # two minutes
        assert shown == [*table(20_000)]


def test_large_differences_take_fewer_seeds_than_a_fixed_number_that_tells_as_much():
    regime = EFFECTS["large differences"]
    found = sequential(regime, STUDIES)
    assert found.decided > 0.98
    fixed = as_good(regime, 2000, found.decided)
    assert fixed is None or found.runs / len(ROWS) < fixed


@pytest.mark.parametrize(("first", "most", "pairs"), [(2, 4, 1), (2, 10, 6), (3, 5, 3), (3, 10, 6), (4, 16, 20)])
def test_all_looks_at_a_comparison_raise_as_many_false_alarms_as_it_may(first, most, pairs):
    """Of trainings drawn anew; any of all looks, wherever a study may end."""
    rule = Rule(seeds=[*range(most)], first=first, pairs=[(str(row), "base") for row in range(pairs)])
    studies, may = amount(40_000, 400_000), ALPHA / pairs
    trainings = np.random.default_rng(7).standard_normal((studies, most))
    alarms = np.zeros(studies, bool)
    for number in range(first, most + 1):
        seen = trainings[:, :number]
        noise = Noise(0.0, np.inf, seen.var(1, ddof=1) / number, number - 1)
        alarms |= np.abs(seen.mean(1)) > noise.half_width(1 - level(number, rule))
    assert alarms.mean() == pytest.approx(may, abs=4 * (may / studies) ** 0.5 + 4 * (may / 400_000) ** 0.5)


def test_p_counts_all_looks_and_comparisons():
    assert sum(spent_share(number, 2, 4) for number in (2, 3, 4)) == pytest.approx(1)
    assert ALPHA < sum(1 - level(number, CHAIN) for number in (2, 3, 4)) * len(CHAIN.pairs) < 1.3 * ALPHA
    assert sequential_p([1 - level(2, CHAIN)], CHAIN) == pytest.approx(ALPHA, rel=1e-3)
    assert sequential_p([0.9, 1 - level(3, CHAIN), 0.9], CHAIN) == pytest.approx(ALPHA, rel=1e-3)
    assert sequential_p([], CHAIN) == 1.0
    found = [sequential_p([p], CHAIN) for p in (1e-12, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.9)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(1e-12 * 3 / spent_share(2, 2, 4))  # Bonferroni's, where simulations know nothing


@pytest.mark.parametrize("comparisons", [1, 3, 19, 20, 31, 100])
def test_what_a_look_calls_different_is_a_finding_of_the_table(comparisons):
    rule = replace(CHAIN, pairs=[(f"row{number}", "base") for number in range(comparisons)])
    for seeds in (2, 3, 4):
        found = [0.9] * (seeds - 2) + [(1 - level(seeds, rule)) * (1 - 1e-6)]
        assert sequential_p(found, rule) < ALPHA


def bounds(table):
    return lambda pair, *_: table[pair]


def test_the_comparison_that_is_nearest_to_its_end_goes_on_and_shares_its_runs():
    deciding = Deciding(CHAIN)
    deciding.have = dict.fromkeys("abcd", 2)
    deciding.look(bounds({("b", "a"): (-1.0, 5.0), ("c", "b"): (-0.5, 5.0), ("d", "a"): (-9.0, 9.0)}))
    assert deciding.following() == [("c", 2), ("b", 2)]
    assert deciding.following(at_once=2) == [("c", 2), ("b", 2), ("a", 2)]
    assert deciding.following(stuck=["c"]) == [("b", 2), ("a", 2)]
    deciding.have |= {"b": 3, "c": 3}
    deciding.look(bounds({("b", "a"): (-1.0, 5.0), ("c", "b"): (0.5, 4.0), ("d", "a"): (-9.0, 9.0)}))
    assert deciding.verdicts == {("c", "b"): DIFFERENT}
    assert deciding.following() == [("a", 2)]  # b has that seed already


def test_smallness_is_told_by_two_one_sided_tests():
    asked = []

    def found(pair, number, confidence):
        asked.append(confidence)
        return (-1.1, 0.5) if len(asked) == 1 else (-0.9, 0.3)

    deciding = Deciding(replace(CHAIN, pairs=[("b", "a")]))
    deciding.have = {"a": 2, "b": 2}
    deciding.look(found)
    assert deciding.verdicts == {("b", "a"): SMALLER}
    assert (deciding.looks[0].low, deciding.looks[0].high) == (-1.1, 0.5)
    assert 1 - asked[1] == pytest.approx(2 * (1 - asked[0]))


def test_verdicts_and_their_order():
    deciding = Deciding(CHAIN)
    deciding.have = {"a": 4, "b": 3, "c": 2, "d": 4}
    deciding.look(bounds({("b", "a"): (-0.9, 0.9), ("c", "b"): (-1.1, 0.2), ("d", "a"): (-3.0, -0.1)}))
    assert deciding.verdicts == {("b", "a"): SMALLER, ("d", "a"): DIFFERENT}
    assert [(look.row, look.seeds) for look in deciding.looks] == [("b", 2), ("c", 2), ("d", 2)]  # none after a verdict
    deciding.look(bounds({}))  # nothing new: nobody looks again
    assert len(deciding.looks) == 3


def test_a_study_without_a_size_never_calls_a_difference_small():
    deciding = Deciding(Rule(seeds=[0, 1, 2], first=2, pairs=[("b", "a")]))
    deciding.have = {"a": 3, "b": 3}
    deciding.look(bounds({("b", "a"): (-0.1, 0.1)}))
    assert not deciding.verdicts
    assert [look.seeds for look in deciding.looks] == [2, 3]
    assert deciding.following() == []
