"""A study's search by Optuna, with runs that are never trained: which jobs it starts, what it settles, what a kill changes."""

import sys

import pytest
from msgspec.structs import replace

from exfuse.analysis.footnotes.search import about_search
from exfuse.analysis.table import columns
from exfuse.config.overrides import describe_run
from exfuse.errors import ConfigError
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import FAILED_BEFORE, Outcome
from exfuse.store.record import DONE, FAILED, KILLED
from exfuse.store.study_reading import load_study
from exfuse.store.tuning import DeclaredTune, Space, floors
from exfuse.sweeps.collect import collect_study
from exfuse.sweeps.declared import DeclaredRow, DeclaredStudy
from exfuse.sweeps.optuna import _rounded
from exfuse.sweeps.stages import Plan
from tests.extras import needs
from tests.records import SCORES, leave_record
from tests.sweeps.test_tuning import JOBS, Trainings, plan, settled

pytestmark = needs("search")

SPACE = {"recipe.lr": Space(low="0.1x", high="10x", log=True), "recipe.encoder_lr_factor": [0.1, 1.0]}
ROWS = {"baseline": DeclaredRow(), "seb": DeclaredRow(builds_on="baseline")}
STUDY = DeclaredStudy(name="x", title="X", question="?", rows=ROWS)
TUNE = DeclaredTune(search="optuna", trials=10, space=SPACE, at_once=4, epochs=0.5)


@pytest.mark.parametrize(("asked", "expected"), [(0.98765, 0.988), (0.9996, 0.9996), (0.9, 0.9)])
def test_numbers_are_rounded_within_their_range(asked, expected):
    assert _rounded(asked, Space(low=0.9, high=0.9999)) == expected


def near(at):
    """Scores that are highest at one rate."""
    return lambda _, lr: 1 / (1 + 100 * abs(lr - at))


def searched(trainings):
    """Jobs of the search, as their settings, wave by wave."""
    return [[dict(override.lstrip("+").split("=", 1) for override in job) for job in wave] for wave in trainings.waves]


def test_every_row_tries_as_many_settings_and_takes_its_best_of_the_held_out_part(tmp_path):
    trainings = Trainings(tmp_path, near(0.003))
    planned = trainings.run(plan(TUNE))
    waves = searched(trainings)
    assert [len(wave) for wave in waves] == [8, 8, 4]  # two rows, four settings at once
    first = {row: [job["recipe.lr"] for job in waves[0] if job["ablation"] == row] for row in ("baseline", "seb")}
    assert first["baseline"] == first["seb"]  # as long as nothing tells rows apart they are asked alike
    for job in trainings.stages[0]:
        run = describe_run(job)
        assert (run.seed, run.held_out.share, run.recipe.epochs) == (1000, 0.2, 6)
        assert 3e-4 <= run.recipe.lr <= 3e-2
    assert len(trainings.finals) == len(JOBS)
    assert {describe_run(job).held_out.share for job in trainings.finals} == {0.0}
    for row in ("baseline", "seb"):
        tried = [float(job["recipe.lr"]) for wave in waves for job in wave if job["ablation"] == row]
        assert len(tried) == 10
        assert {rate for (name, _), rate in settled(trainings).items() if name == row} == {
            min(tried, key=lambda lr: abs(lr - 0.003))
        }
    assert len(planned.search.jobs()) == 20  # what a budget counts


def test_a_search_that_was_killed_asks_for_the_same_again_and_goes_on(tmp_path):
    whole = Trainings(tmp_path / "whole", near(0.003))
    whole.run(plan(TUNE))
    ninth = searched(whole)[1][0]["recipe.lr"]
    killed = Trainings(tmp_path / "killed", near(0.003), lambda job: KILLED if job["recipe.lr"] == ninth else DONE)
    planned = killed.run(plan(TUNE))
    assert {outcome.status for outcome in planned.found} == {"missing"}
    assert "search is not finished" in planned.found[0].reason
    collect_study(planned.found, STUDY, "exfuse train", False, tmp_path / "study", planned.search)
    assert load_study(tmp_path / "study").tuning.chosen == {}  # though all that was tried of one row is done
    again = Trainings(tmp_path / "killed", near(0.003))
    again.run(plan(TUNE))
    assert again.stages == whole.stages


def test_settings_that_are_asked_for_again_are_one_run(tmp_path):
    tune = replace(TUNE, space={"recipe.lr": [0.001, 0.003, 0.01]}, trials=8)
    trainings = Trainings(tmp_path / "runs", near(0.003))
    planned = trainings.run(plan(tune))
    assert len({job["recipe.lr"] for wave in searched(trainings) for job in wave}) <= 3
    collect_study(planned.found, STUDY, "exfuse train", False, tmp_path / "study", planned.search)
    tuning = load_study(tmp_path / "study").tuning
    assert {row: len(trials) for row, trials in tuning.trials.items()} == {"baseline": 8, "seb": 8}
    assert set(tuning.chosen) == {"baseline", "seb"}


def test_what_fails_or_diverges_counts_as_worst_and_a_hopeless_row_is_tried_again(tmp_path):
    def bad(job):
        return float(job["recipe.lr"]) < 0.01

    failing = Trainings(tmp_path / "a", near(0.003), lambda job: FAILED if bad(job) else DONE, diverges=bad)
    failing.run(plan(TUNE))
    assert min(settled(failing).values()) >= 0.01
    before = Trainings(
        tmp_path / "b", near(0.003), lambda job: DONE if "overwrite" in job or job["seed"] != "1000" else FAILED_BEFORE
    )
    before.run(plan(replace(TUNE, trials=4)))
    assert [len(wave) for wave in searched(before)] == [8, 8]
    assert all("overwrite=true" in job for job in before.stages[1])


class Pruned(Trainings):
    """Stands for the launcher: a run stops at the first look that is worse than its floors."""

    def _end(self, number, job):
        settings = dict(override.lstrip("+").split("=", 1) for override in job)
        if settings["seed"] != "1000":
            self.ends = lambda _: KILLED
            return super()._end(number, job)
        run, row = describe_run(job), settings["ablation"]
        key = f"{abs(hash(tuple(job))):016x}"[-16:]
        last, looks = self.score(row, run.recipe.lr), []
        for share in (0.25, 0.5, 0.75, 1.0):
            looks.append(last * share)
            if any(look < floor for look, floor in zip(looks, run.stop.floors, strict=False)):
                break
        stopped = {"stopped": {"epochs": 2.0, "steps": 2, "of": 6}} if len(looks) < 4 else {}
        choices = {f"technique/{name}": "none" for name in ("ss", "lr", "ecre", "dap")}
        choices |= {"technique/seb": "product" if row == "seb" else "none", "decoder": "levels_2345"}
        tried = {"lr": run.recipe.lr, "encoder_lr_factor": run.recipe.encoder_lr_factor}
        config = {"stop": {"floors": run.stop.floors}, "recipe": tried}
        content = {"looks": looks, "config": config, "seconds": 3600.0, "images": {"train": 10, "val": 2}, **stopped}
        scores = SCORES | {"miou": 0.99 if stopped else last}
        leave_record(RunFolder(self.store, key), DONE, seed=1000, choices=choices, scores=scores, **content)
        return Outcome(number, job, row, 1000, choices, str(self.store), key, DONE)


def test_what_is_worse_than_most_is_given_up_and_never_chosen(tmp_path):
    pruned = Pruned(tmp_path / "runs", near(0.003))
    planned = pruned.run(plan(replace(TUNE, prune=True, trials=16)))
    waves = [[describe_run(job) for job in wave] for wave in pruned.waves]
    assert {run.recipe.val_every for wave in waves for run in wave} == {1}  # of six epochs, four looks or more
    assert [bool(wave[0].stop.floors) for wave in waves] == [False, False, True, True]  # five have to finish first
    collect_study(planned.found, STUDY, "exfuse train", False, tmp_path / "study", planned.search)
    read = load_study(tmp_path / "study")
    stopped = [record for record in read.searched.values() if record.stopped]
    assert stopped
    assert all(len(trials) == 16 for trials in read.tuning.trials.values())
    rates = {float(trial.settings["recipe.lr"]) for trials in read.tuning.trials.values() for trial in trials
             if read.searched[trial.key] in stopped}  # fmt: skip
    assert rates.isdisjoint(settled(pruned).values())  # though their record names the highest score
    assert {row.name for row in read.rows} == {"baseline", "seb"}
    said = " ".join(about_search(read))
    assert (
        "tried 16 settings that Optuna asked for, recipe.lr from 0.0003 to 0.03 and recipe.encoder_lr_factor of 0.1, 1" in said
    )
    assert f"Given up there, below the median of finished runs: {len(stopped)} run" in said
    assert {column.key for column in columns(read)} >= set(SPACE)


def test_a_floor_is_the_median_of_the_best_so_far():
    looks = [[0.1, 0.3], [0.2, 0.1], [0.3, 0.5], [0.4, 0.4], [0.5, 0.6]]
    assert floors(looks) == [0.3, 0.4]
    assert floors(looks[:4]) == []


@pytest.mark.parametrize(
    ("tune", "says"),
    [
        (replace(TUNE, trials=None), r"study\.tune\.trials is not set"),
        (replace(TUNE, space={}), r"study\.tune\.space is empty"),
        (replace(TUNE, space={"recipe.lr": []}), r"study\.tune\.space: recipe\.lr needs a list of values"),
        (replace(TUNE, space={"recipe.lr": Space(low=1, high=1)}), r"recipe\.lr needs"),
        (replace(TUNE, space={"recipe.lr": Space(low=0.0, high=1.0, log=True)}), r"above 0 with log"),
        (replace(TUNE, space={"recipe.lr": Space(low=-1.0, high=1.0)}), r"recipe\.lr=-1\.0: expected"),
        (replace(TUNE, space={"recipe.optimizer": Space(low="1x", high="2x")}), r"no number"),
        (replace(TUNE, seed=1), r"study\.tune\.seed=1 is one of the study's seeds"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(tune, says):
    with pytest.raises(ConfigError, match=says):
        plan(tune)


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"search=optuna needs optuna, .* pip install 'exfuse\[search\]'"):
        plan(TUNE)


def test_what_is_typed_is_not_searched():
    jobs = [[*job, "recipe.lr=0.01"] for job in JOBS]
    assert plan(TUNE, jobs).search.keys == ["recipe.encoder_lr_factor"]
    assert Plan([[*job, "recipe.encoder_lr_factor=1"] for job in jobs], TUNE, 0, describe_run).search is None


def test_floors_are_for_a_part_of_train_alone():
    with pytest.raises(ConfigError, match=r"stop\.floors: they are for runs of a search"):
        describe_run(["+stop.floors=[0.1]"])
    assert describe_run(["+stop.floors=[0.1]", "held_out.share=0.2"]).stop.every
