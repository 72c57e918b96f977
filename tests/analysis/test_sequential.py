"""Sequential studies: false alarms of the whole procedure, which comparison gets the next seed, what a look may spend."""

import pytest

from exfuse.analysis.sequential import ALPHA, Deciding, adjusted_p, level, share
from exfuse.store.sequential import DIFFERENT, SMALLER, Rule
from tests.analysis.sequential_simulation import EFFECTS, REGIMES, ROWS, as_good, sequential
from tests.sharing import amount

STUDIES = amount(2_000, 20_000)
CHAIN = Rule(seeds=[3, 1, 4, 5], first=2, pairs=[("b", "a"), ("c", "b"), ("d", "a")], size=1.0)


@pytest.mark.parametrize("name", REGIMES)
def test_a_whole_study_raises_a_false_alarm_in_one_of_twenty_at_most(name):
    found = sequential(REGIMES[name], STUDIES, seed=1)
    chance = 2 * (0.05 * 0.95 / STUDIES) ** 0.5 if STUDIES < 20_000 else 0
    assert found.wrong <= 0.055 + chance


def test_large_differences_take_fewer_seeds_than_a_fixed_number_that_tells_as_much():
    regime = EFFECTS["large differences"]
    found = sequential(regime, STUDIES)
    assert found.decided > 0.98
    fixed = as_good(regime, 2000, found.decided)
    assert fixed is None or found.runs / len(ROWS) < fixed


def test_all_looks_together_spend_what_there_is():
    assert sum(share(number, CHAIN) for number in (2, 3, 4)) == pytest.approx(1)
    assert sum(1 - level(number, CHAIN) for number in (2, 3, 4)) * len(CHAIN.pairs) == pytest.approx(ALPHA)
    assert adjusted_p([1 - level(2, CHAIN)], CHAIN) == pytest.approx(ALPHA)
    assert adjusted_p([0.9, 1 - level(3, CHAIN), 0.9], CHAIN) == pytest.approx(ALPHA)
    assert adjusted_p([], CHAIN) == 1.0


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
