"""Sequential studies with runs that are never trained: which seeds are started, what is kept, what survives a stop."""

import hashlib

import numpy as np
import pytest
from msgspec.structs import replace
from rich.console import Console

from exfuse.errors import ConfigError
from exfuse.files import sha256
from exfuse.store.description import Most, Sweep
from exfuse.store.folder import COUNTS, RunFolder
from exfuse.store.outcome import SKIPPED, Outcome
from exfuse.store.record import DONE, FAILED
from exfuse.sweeps.sequential import Additions, pairs_of
from tests.records import SCORES, leave_record

MOST = Most(seeds=6, runs=None, hours=None, at_once=1)
SWEEP = Sweep(
    missing="train", output=None, mixed=False, until="decided", size=None, most=MOST, hung=1800.0, timeout=None
)  # fmt: skip
PAIRS = [("better", "baseline"), ("same", "baseline")]
HITS = {"baseline": 0.5, "better": 0.9, "same": 0.5}


class Trainings:
    """Ends every job at once, with counts of 40 images; counts what it had to train."""

    def __init__(self, store, stops=lambda _: False, fails=lambda *_: False):
        self.store, self.stops, self.fails = store, stops, fails
        self.trained, self.saved = [], []

    def run(self, additions):
        stages = additions.stages(lambda name, seed: [name, str(seed)], self._save, Console(quiet=True))
        answer = None
        while not self.stops(len(self.saved)):
            try:
                jobs = stages.send(answer)
            except StopIteration:
                break
            answer = [self._end(name, int(seed)) for name, seed in jobs]
        return additions

    def _save(self, _, sequential):
        self.saved.append(sequential)

    def _end(self, row, seed):
        key = hashlib.sha256(f"{row} {seed}".encode()).hexdigest()[:16]
        folder, status = RunFolder(self.store, key), DONE
        if self.fails(row, seed):
            status = FAILED
        elif folder.record() is not None:
            status = SKIPPED
        else:
            self.trained.append((row, seed))
            folder.path.mkdir(parents=True)
            rng = np.random.default_rng([seed, len(row)])
            hits = rng.binomial(100, HITS.get(row, 0.6) + 0.02 * rng.standard_normal(), (40, 2))
            counts = np.stack([np.stack([hits[:, 0], 100 - hits[:, 0]], -1), np.stack([100 - hits[:, 1], hits[:, 1]], -1)], 1)
            np.savez_compressed(folder.path / COUNTS, counts=counts, ids=[str(number) for number in range(40)])
            leave_record(folder, DONE, seed=seed, scores=SCORES, confusion_sha256=sha256(folder.path / COUNTS), seconds=3600.0)
        return Outcome(0, [], row, seed, {}, str(self.store), key, status, seconds=3600.0)


def additions(sweep=SWEEP, earlier=None, seeds=(0, 1, 2), alone=()):
    return Additions(PAIRS, seeds, sweep, [4], earlier, alone=alone)


def test_seeds_are_added_until_all_is_decided_or_spent_and_rows_stay_paired(tmp_path):
    trainings = Trainings(tmp_path)
    done = trainings.run(additions())
    assert done.rule.seeds == [0, 1, 2, 3, 5, 6]  # 4 is another's
    assert done.deciding.verdicts == {("better", "baseline"): "different"}
    by_row = {row: [seed for name, seed in trainings.trained if name == row] for row in HITS}
    assert by_row == {"better": [0, 1, 2], "baseline": done.rule.seeds, "same": done.rule.seeds}
    assert len(trainings.trained) == len(set(trainings.trained))
    last = trainings.saved[-1]
    assert last.ended == "all 6 seeds are spent"
    assert (last.runs, last.hours) == (15, 15.0)
    assert [look.seeds for look in last.looks if look.row == "same"] == [3, 4, 5, 6]


def test_a_study_that_was_stopped_takes_the_same_looks_and_spends_on(tmp_path):
    whole = Trainings(tmp_path / "whole")
    whole.run(additions())
    first = Trainings(tmp_path / "parts", stops=lambda saves: saves == 2)
    first.run(additions())
    again = Trainings(tmp_path / "parts")
    again.run(additions(earlier=first.saved[-1]))
    assert len(again.saved[0].looks) == len(first.saved[-1].looks)  # none is forgotten while they are taken again
    assert again.saved[-1] == whole.saved[-1]
    assert {*first.trained} | {*again.trained} == {*whole.trained}
    assert not {*first.trained} & {*again.trained}
    third = Trainings(tmp_path / "parts")
    third.run(additions(earlier=again.saved[-1]))
    assert not third.trained
    assert third.saved[-1] == whole.saved[-1]


@pytest.mark.parametrize(
    "other",
    [
        {"sweep": replace(SWEEP, size=0.5)},
        {"sweep": replace(SWEEP, most=replace(MOST, seeds=5))},
        {"seeds": (0, 1)},
        {"seeds": (2, 1, 0)},
    ],
)
def test_the_rule_cannot_change_after_a_look(tmp_path, other):
    trainings = Trainings(tmp_path)
    trainings.run(additions())
    with pytest.raises(ConfigError, match="under another rule"):
        additions(earlier=trainings.saved[-1], **other)
    unseen = replace(trainings.saved[-1], looks=[], hours=2.0)
    changed = additions(earlier=unseen, **other)  # nobody has looked
    assert (changed.rule, changed.hours) == (additions(**other).rule, 2.0)
    assert changed.earlier is None


def test_a_budget_of_runs_or_hours_ends_it(tmp_path):
    for number, most in enumerate((replace(MOST, runs=11), replace(MOST, hours=10.0))):
        trainings = Trainings(tmp_path / str(number))
        trainings.run(additions(replace(SWEEP, most=most)))
        assert len(trainings.trained) == 11
        assert "is spent" in trainings.saved[-1].ended
        again = Trainings(tmp_path / str(number))
        again.run(additions(replace(SWEEP, most=most), earlier=trainings.saved[-1]))
        assert not again.trained
        assert again.saved[-1] == trainings.saved[-1]  # with every seed, and not spent after the first look


def test_a_row_that_nothing_is_compared_with_takes_the_first_seeds_and_decides_nothing(tmp_path):
    without = Trainings(tmp_path / "without").run(additions())
    trainings = Trainings(tmp_path / "with", fails=lambda row, seed: (row, seed) == ("alone", 2))
    done = trainings.run(additions(alone=["alone"]))
    assert [seed for name, seed in trainings.trained if name == "alone"] == [0, 1]
    assert done.deciding.looks == without.deciding.looks
    assert trainings.saved[-1].ended == "all 6 seeds are spent"


def test_a_run_that_fails_stops_its_comparisons_alone(tmp_path):
    trainings = Trainings(tmp_path, fails=lambda row, seed: (row, seed) == ("same", 1))
    done = trainings.run(additions())
    assert done.deciding.verdicts == {("better", "baseline"): "different"}
    assert trainings.saved[-1].ended == "runs of same are not finished"


def test_what_cannot_be_sequential_is_refused():
    with pytest.raises(ConfigError, match="no row"):
        Additions([], [0], SWEEP, [], None)
    with pytest.raises(ConfigError, match=r"sweep\.most\.seeds=6: expected at least 7"):
        additions(seeds=range(7))
    assert pairs_of(["a", "b", "c"], {"b": "a", "c": "x"}) == [("b", "a")]
