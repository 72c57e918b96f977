import statistics

import pytest

from exfuse.reports.page.curves import common_steps


def test_only_steps_that_all_seeds_have_are_averaged():
    steps, lines = common_steps([[(9, 1.0), (19, 2.0), (29, 3.0)], [(19, 4.0), (29, 6.0), (39, 9.0)]])
    assert steps == [19, 29]
    assert lines == [[2.0, 3.0], [4.0, 6.0]]


def test_nothing_in_common_is_no_curve():
    assert common_steps([]) == ([], [])
    assert common_steps([[(1, 1.0)], [(2, 1.0)]]) == ([], [[], []])


def test_a_long_curve_is_thinned_by_averages_of_neighbours():
    curve = [(step, float(step % 7)) for step in range(1000)]
    steps, (line,) = common_steps([curve])
    assert len(steps) == len(line) <= 120
    assert steps[0] == statistics.mean(range(9))
    assert line[3] == pytest.approx(statistics.mean(step % 7 for step in range(27, 36)))
