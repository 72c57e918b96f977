"""What a search settles: the best, ties, failures, the ends of a grid and what lies beyond them."""

import pytest

from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from exfuse.store.tuning import Trial, best, beyond, ends, points, resolved
from tests.records import SCORES, leave_record


def searched(tmp_path, scores):
    """Trials of one key and their records; a score of None is a failure."""
    trials, records = [], dict[str, Record | None]()
    for number, score in enumerate(scores):
        key, failed = f"{number:016x}", score is None
        status = "failed" if failed else "done"
        content = {} if failed else {"scores": SCORES | {"miou": score}}
        records[key] = leave_record(RunFolder(tmp_path, key), status, **content)
        trials.append(Trial(settings={"recipe.lr": 10.0**number}, key=key, failed=failed))
    return trials, records


@pytest.mark.parametrize(
    ("scores", "place"),
    [([0.1, 0.3, 0.2], 1), ([0.2, 0.3, 0.3], 1), ([0.3, 0.3, 0.3], 0), ([None, 0.1, None], 1), ([0.0, None], 0)],
)
def test_the_highest_score_wins_of_equal_ones_the_first_and_a_failure_never(tmp_path, scores, place):
    assert best(*searched(tmp_path, scores)) == {"recipe.lr": 10.0**place}


def test_nothing_is_chosen_while_a_run_has_yet_to_end_or_where_all_failed(tmp_path):
    trials, records = searched(tmp_path, [0.1, 0.2])
    assert best(trials, {**records, trials[0].key: None}) is None
    assert best([*trials, Trial(settings={"recipe.lr": 7.0}, key=None)], records) is None
    assert best(*searched(tmp_path, [None, None])) is None
    assert best([], {}) is None


def test_a_grid_has_ends_where_its_values_are_several_numbers():
    grid = {"lr": [0.1, 0.3, 1.0], "batch": [8], "optimizer": ["sgd", "adamw"], "flag": [True, False]}
    usual = {"batch": 8, "optimizer": "sgd", "flag": True}
    assert ends(grid, {**usual, "lr": 1.0}) == {"lr": 1}
    assert ends(grid, {**usual, "lr": 0.1}) == {"lr": -1}
    assert ends(grid, {**usual, "lr": 0.3}) == {}


@pytest.mark.parametrize(
    ("values", "side", "expected"),
    [
        ([0.001, 0.003, 0.01], 1, 0.033),
        ([0.001, 0.003, 0.01], -1, 0.00033),
        ([0.01, 0.001, 0.003], 1, 0.033),
        ([2, 4, 8], 1, 16),
        ([0, 2], 1, 4),
        ([0.0, 0.1], -1, -0.1),
    ],
)
def test_a_grid_goes_on_by_its_own_ratio(values, side, expected):
    further = beyond(values, side)
    assert further == pytest.approx(expected)
    assert type(further) is type(values[0])


def test_multiples_are_of_what_the_recipe_says():
    assert resolved("0.3x", 0.003) == 0.0009
    assert resolved("1x", 0.0033333) == 0.0033333
    assert resolved("2x", 8) == 16
    assert resolved("cosinex", 1) == "cosinex"
    assert resolved(0.5, None) == 0.5
    with pytest.raises(ValueError, match="no number"):
        resolved("2x", "poly")


def test_points_are_every_combination_in_the_grids_order():
    assert points({"a": [1, 2], "b": [3, 4]}) == [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}]
