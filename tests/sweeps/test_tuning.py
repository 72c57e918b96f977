"""A study's search, with runs that are never trained: which jobs it starts, what it settles, what it leaves in the study."""

import dataclasses
import math
import shutil

import numpy as np
import pytest
from msgspec.structs import replace
from rich.console import Console

from exfuse.analysis.footnotes.search import about_search
from exfuse.composition.reading import read_labelled_split, split_of
from exfuse.config.overrides import describe_run
from exfuse.errors import ConfigError, UserError
from exfuse.files import sha256
from exfuse.runs.plan import find_backbone, plan_run
from exfuse.store.description import NO_STOP
from exfuse.store.folder import COUNTS, RunFolder
from exfuse.store.outcome import FAILED_BEFORE, Outcome
from exfuse.store.record import DONE, FAILED, INTERRUPTED, KILLED
from exfuse.store.study_reading import load_study
from exfuse.store.tuning import DeclaredTune
from exfuse.sweeps.collect import collect_study
from exfuse.sweeps.declared import DeclaredRow, DeclaredStudy
from exfuse.sweeps.stages import Plan
from exfuse.sweeps.tuning import named
from tests.analysis.synthetic import edit_study
from tests.data.conftest import save_image, save_mask
from tests.records import SCORES, leave_record

TUNE = DeclaredTune(grid={"recipe.lr": [0.001, 0.003, 0.01]}, epochs=0.5)
JOBS = [[f"+ablation={row}", f"seed={seed}"] for row in ("baseline", "seb") for seed in (0, 1)]


_SEARCHED = ("recipe.lr", "recipe.encoder_lr_factor", "recipe.weight_decay")


def is_searching(job):
    return any(override.startswith("held_out") for override in job)


class Trainings:
    """Stands for the launcher: ends every job at once, with a score that depends on its row and settings.

    ``diverges`` says it of a job's settings, as they were typed.
    """

    def __init__(self, store, score, ends=lambda _: DONE, diverges=lambda _: False):
        self.store, self.score, self.ends, self.diverges = store, score, ends, diverges
        self.stages, self.to_come = [], []

    @property
    def waves(self):
        """The search's jobs, as they were started side by side."""
        return [stage for stage in self.stages if is_searching(stage[0])]

    @property
    def finals(self):
        """Jobs whose runs take all of train."""
        return [job for stage in self.stages for job in stage if not is_searching(job)]

    def run(self, plan):
        stages, answer, number = plan.stages(Console(quiet=True)), None, 0
        while True:
            try:
                jobs = stages.send(answer)
            except StopIteration:
                return plan
            self.stages.append(jobs)
            self.to_come.append(plan.to_come(jobs))
            answer = [self._end(number + place, job) for place, job in enumerate(jobs)]
            number += len(jobs)

    def _end(self, number, job):
        settings = dict(override.lstrip("+").split("=", 1) for override in job)
        row, seed, status = settings["ablation"], int(settings["seed"]), self.ends(settings)
        # one key for one training, as hashes give it
        key = f"{abs(hash(tuple(sorted((name, value) for name, value in settings.items() if name != 'overwrite')))):016x}"[-16:]
        choices = {f"technique/{name}": "none" for name in ("ss", "lr", "ecre", "dap")}
        choices |= {"technique/seb": "product" if row == "seb" else "none", "decoder": "levels_2345"}
        if status != "unplanned":
            content = {"scores": SCORES | {"miou": self.score(row, float(settings["recipe.lr"]))}} if status == DONE else {}
            if status != FAILED:
                content["health"] = {"highest_loss": 9.0 if self.diverges(settings) else 0.0}  # of one class: ln 1
            elif self.diverges(settings):
                content["health"] = {"highest_loss": math.inf}
            held_out = {"share": 0.2 if is_searching(job) else 0.0}
            recipe = {name.removeprefix("recipe."): float(settings[name]) for name in _SEARCHED if name in settings}
            content["config"] = {"recipe": recipe, "held_out": held_out}
            if status == DONE and not is_searching(job):
                (folder := self.store / key).mkdir(parents=True, exist_ok=True)
                np.savez(folder / COUNTS, counts=np.ones((1, 1, 1), np.int32), ids=["a"])
                content["confusion_sha256"] = sha256(folder / COUNTS)
            written = {FAILED_BEFORE: FAILED}.get(status, status)
            leave_record(RunFolder(self.store, key), written, seed=seed, choices=choices, seconds=3600.0, **content)
        return Outcome(
            number, job, row, seed, choices, str(self.store), "" if status == "unplanned" else key,
            FAILED if status == "unplanned" else status,
        )  # fmt: skip


def plan(tune=TUNE, jobs=JOBS):
    return Plan(jobs, tune, 0, describe_run)


def test_a_sweep_of_nothing_is_one_run(tmp_path):
    stages = plan(None, [[]]).stages(Console(quiet=True))
    assert stages.send(None) == [[]]
    with pytest.raises(StopIteration):
        stages.send([Outcome(0, [], "baseline", 0, {}, str(tmp_path), "0", DONE)])


def peak(at):
    """Scores that are highest at one rate."""
    return lambda _, lr: 1 / (1 + abs(lr - at))


def settled(trainings):
    """Rate by row and seed of the runs that the table shows."""
    jobs = [dict(override.lstrip("+").split("=", 1) for override in job) for job in trainings.finals]
    return {(job["ablation"], int(job["seed"])): float(job["recipe.lr"]) for job in jobs}


def test_every_row_tries_the_same_grid_then_takes_its_best(tmp_path):
    trainings = Trainings(tmp_path, lambda row, lr: 0.5 - abs(lr - (0.003 if row == "seb" else 0.0031)))
    trainings.run(plan())
    (search, *_), finals = trainings.stages, trainings.finals
    assert len(search) == 6
    for job in search:
        described = describe_run(job)
        assert described.seed == 1000
        assert (described.held_out.share, described.held_out.seed) == (0.2, 1000)
        assert described.recipe.epochs == 6  # half of the recipe's
        assert described.recipe.schedule.settings["warmup_steps"] == 25
        assert described.trainer.max_epochs == 6
    assert len(finals) == 4
    assert {describe_run(job).held_out.share for job in finals} == {0.0}
    assert {describe_run(job).recipe.epochs for job in finals} == {12}
    assert settled(trainings) == {(row, seed): 0.003 for row in ("baseline", "seb") for seed in (0, 1)}


def test_runs_that_follow_a_stage_are_known_while_it_lasts(tmp_path):
    trainings = Trainings(tmp_path, peak(0.003))
    planned = trainings.run(plan(replace(TUNE, widen=0)))
    assert [(len(stage), follow) for stage, follow in zip(trainings.stages, trainings.to_come, strict=True)] == [
        (6, 4), (2, 2), (2, 0),
    ]  # fmt: skip
    assert planned.longer == pytest.approx(1 / (0.5 * 0.8))


@pytest.mark.parametrize(("best", "widen", "grid"), [
    (0.9, 2, [0.001, 0.003, 0.01, 0.033, 0.11]), (0.9, 0, [0.001, 0.003, 0.01]), (0.033, 2, [0.001, 0.003, 0.01, 0.033, 0.11]),
    (0.0, 1, [0.001, 0.003, 0.01, 0.00033]), (0.003, 2, [0.001, 0.003, 0.01]),
])  # fmt: skip
def test_a_best_at_the_end_widens_the_grid_for_all_rows_within_bounds(tmp_path, best, widen, grid):
    trainings = Trainings(tmp_path, lambda row, lr: peak(best if row == "seb" else 0.003)(row, lr))
    planned = trainings.run(plan(replace(TUNE, widen=widen)))
    assert planned.search.grid == {"recipe.lr": grid}
    tried = {(dict(o.split("=") for o in job)["+ablation"], dict(o.split("=") for o in job)["recipe.lr"])
             for wave in trainings.waves for job in wave}  # fmt: skip
    assert len(tried) == 2 * len(grid)
    assert {rate for (row, _), rate in settled(trainings).items() if row == "baseline"} == {0.003}


def test_a_grid_is_not_widened_beyond_what_a_setting_may_be(tmp_path):
    trainings = Trainings(tmp_path, lambda *_: 0.5)
    flips = DeclaredTune(grid={"recipe.augmentation.flip": [0.8, 0.5]})
    jobs = [[*job, "recipe.lr=0.1"] for job in JOBS]
    planned = trainings.run(plan(flips, jobs))  # of equal scores the first: 0.8, whose next is above 1
    assert planned.search.grid == {"recipe.augmentation.flip": [0.8, 0.5]}


def test_failures_count_as_worst_and_a_row_whose_search_has_not_ended_waits(tmp_path):
    def bad(job):
        return job["recipe.lr"] == "0.003"

    failing = Trainings(tmp_path / "a", peak(0.003), lambda job: FAILED if bad(job) else DONE, diverges=bad)
    failing.run(plan(replace(TUNE, widen=0)))
    assert set(settled(failing).values()) == {0.001}
    unlucky = Trainings(tmp_path / "c", peak(0.003), lambda job: FAILED if bad(job) else DONE)  # a full disk, say
    assert {one.status for one in unlucky.run(plan(replace(TUNE, widen=0))).found} == {"missing"}
    assert not unlucky.finals

    def ends(job):
        return KILLED if job["+ablation" if "+ablation" in job else "ablation"] == "seb" and job["seed"] == "1000" else DONE

    killed = Trainings(tmp_path / "b", peak(0.003), ends)
    planned = killed.run(plan())
    assert set(settled(killed)) == {("baseline", 0), ("baseline", 1)}
    missing = [outcome for outcome in planned.found if outcome.row == "seb"]
    assert [(outcome.status, outcome.seed, outcome.key) for outcome in missing] == [("missing", 0, ""), ("missing", 1, "")]
    assert "search is not finished" in missing[0].reason


@pytest.mark.parametrize("status", [INTERRUPTED, "unplanned"])
def test_what_says_nothing_of_a_rate_settles_nothing(tmp_path, status):
    trainings = Trainings(tmp_path, peak(0.003), lambda job: status if job["recipe.lr"] == "0.01" else DONE)
    planned = trainings.run(plan())
    assert len(trainings.stages) == 1
    assert all(outcome.status == "missing" for outcome in planned.found)


def test_a_row_of_which_every_run_failed_before_is_tried_again(tmp_path):
    trainings = Trainings(
        tmp_path, peak(0.003), lambda job: DONE if "overwrite" in job or job["seed"] != "1000" else FAILED_BEFORE
    )
    trainings.run(plan())
    assert len(trainings.stages) == 4  # the search, once more, and what the table shows: one seed of every row, then the others
    assert all("overwrite=true" in job for job in trainings.stages[1])
    assert set(settled(trainings).values()) == {0.003}


def test_rows_of_which_some_set_what_is_searched_are_not_tuned_alike():
    jobs = [[*job, "recipe.lr=0.5"] if "ablation=seb" in " ".join(job) else job for job in JOBS]
    with pytest.raises(ConfigError, match=r"study.tune searches recipe.lr, which some rows set and .*baseline.* does not"):
        plan(jobs=jobs)


def test_what_is_typed_is_not_searched_and_multiples_are_of_the_recipes_rate():
    typed = plan(jobs=[[*job, "recipe.lr=0.5"] for job in JOBS])
    assert typed.search is None
    assert typed.left_out == ["recipe.lr"]
    assert plan(DeclaredTune(grid={"++recipe.lr": [0.1, 0.2]}), jobs=[[*job, "recipe.lr=0.5"] for job in JOBS]).search is None
    multiples = plan(DeclaredTune(grid={"recipe.lr": ["0.3x", "1x", "3x"]}))
    assert multiples.search.grid == {"recipe.lr": [0.0009, 0.003, 0.009]}


@pytest.mark.parametrize(
    ("tune", "says"),
    [
        (replace(TUNE, seed=1), "study.tune.seed=1 is one of the study's seeds"),
        (DeclaredTune(grid={"recipe.lr": []}), "recipe.lr has no value"),
        (DeclaredTune(space={"recipe.lr": [0.001]}, trials=20), r"study\.tune\.grid is empty.*study\.tune\.search=optuna"),
        (DeclaredTune(grid={"recipe.optimizer": ["2x"]}), "no number"),
        (DeclaredTune(grid={"recipe.lrr": ["0.3x", "1x"]}), r"grid\.recipe\.lrr: there is no such key\. Did you mean 'lr'"),
        (DeclaredTune(grid={"recipe.lrr": [0.1]}), r"grid\.recipe\.lrr: there is no such key\. Did you mean 'lr'"),
        (DeclaredTune(grid={"recipe.epochs": [10, 20]}), r"recipe\.epochs cannot be searched"),
        (DeclaredTune(grid={"recipe.schedule.warmup_steps": [1, 2]}), r"recipe\.schedule\.warmup_steps cannot be searched"),
        (DeclaredTune(grid={"+stop.epochs": [1, 2]}), r"\+stop\.epochs cannot be searched"),
        (DeclaredTune(grid={"~seed": [1, 2]}), r"~seed takes a key away"),
        (DeclaredTune(grid={"++recipe.lr": [0.1], "recipe.lr": [0.2]}), r"\+\+recipe\.lr and recipe\.lr are one key"),
        (DeclaredTune(grid={"optimizer@recipe.optimizer": ["sgd", "adamw"]}), "is a group, and its options have settings"),
    ],
)
def test_mistakes_are_named(tune, says):
    with pytest.raises(ConfigError, match=says):
        plan(tune)


def test_a_value_that_no_run_can_have_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match=r"recipe\.lr=-1"):
        Trainings(tmp_path, peak(0)).run(plan(DeclaredTune(grid={"recipe.lr": [-1.0, 1.0]})))


def test_a_grid_needs_no_number_of_trials(tmp_path):
    planned = Trainings(tmp_path, peak(0.003)).run(plan(replace(TUNE, trials=20)))  # as of a study that was Optuna's
    assert {one.status for one in planned.found} == {DONE}


def test_a_search_goes_through_its_epochs_whatever_ends_the_runs_of_the_table():
    jobs = [[*job, "stop.patience=2", "stop.min_delta=0.01", "recipe.val_every=1"] for job in JOBS]
    for job in plan(jobs=jobs).search.jobs():
        assert describe_run(job).stop == NO_STOP
    assert describe_run(jobs[0]).stop.patience == 2


def test_rows_that_no_study_declares_are_called_alike_in_the_table_and_its_search(tmp_path):
    """By what else was swept, also where one row's search has not ended."""
    jobs = [[*job, f"recipe.weight_decay={decay}"] for job in JOBS for decay in (0.0, 0.1)]

    def ends(job):
        return KILLED if job["seed"] == "1000" and job["ablation"] == "seb" and job["recipe.weight_decay"] == "0.1" else DONE

    planned = Trainings(tmp_path / "runs", peak(0.003), ends).run(plan(jobs=jobs))
    plain = replace(STUDY, rows={})
    collect_study(planned.found, plain, "exfuse train -m", True, tmp_path / "study", planned.search)
    study = load_study(tmp_path / "study")
    names = [f"{row} recipe.weight_decay={decay}" for row in ("baseline", "seb") for decay in (0.0, 0.1)]
    assert sorted(row.name for row in study.rows) == [*study.tuning.trials] == names
    assert [*study.tuning.chosen] == names[:3]


def late(rates, *seeds):
    """Whether a job of SEB diverges: at some rates with some of the study's seeds, never in the search."""
    return lambda job: job["ablation"] == "seb" and float(job["recipe.lr"]) in rates and int(job["seed"]) in seeds


@pytest.mark.parametrize(("diverges", "rate", "trained"), [
    (late([0.003], 0), 0.001, [(0.003, 0), (0.001, 0), (0.001, 1)]),  # told by one run
    (late([0.003], 1), 0.001, [(0.003, 0), (0.003, 1), (0.001, 0), (0.001, 1)]),
    (late([0.001, 0.003], 0), 0.01, [(0.003, 0), (0.001, 0), (0.01, 0), (0.01, 1)]),
    (late([0.001, 0.003, 0.01], 0), 0.003, [(0.003, 0), (0.001, 0), (0.01, 0), (0.003, 1)]),  # nothing else is left
])  # fmt: skip
@pytest.mark.parametrize("status", [DONE, FAILED])  # the loss was high, or no number
def test_a_row_that_diverges_with_all_of_train_takes_what_was_next_best(tmp_path, diverges, rate, trained, status):
    def ends(job):
        return status if diverges(job) else DONE

    trainings = Trainings(tmp_path / "runs", peak(0.003), ends, diverges)
    planned = trainings.run(plan(replace(TUNE, widen=0)))
    of_seb = [job for job in trainings.finals if job[0] == "+ablation=seb"]
    assert [(float(job[2].removeprefix("recipe.lr=")), int(job[1].removeprefix("seed="))) for job in of_seb] == trained
    taken = {"baseline": 0.003, "seb": rate}
    shown = {(one.row, one.seed, one.overrides[-1]) for one in planned.found}
    assert shown == {(row, seed, f"recipe.lr={taken[row]}") for row in taken for seed in (0, 1)}
    collect_study(planned.found, STUDY, "exfuse train", False, tmp_path / "study", planned.search)
    study = load_study(tmp_path / "study")
    assert study.tuning.chosen == {"baseline": {"recipe.lr": 0.003}, "seb": {"recipe.lr": rate}}
    assert {"baseline"}.isdisjoint(study.tuning.passed_over)
    told = " ".join(about_search(study))
    assert "passed over for the next best, for with all of train it diverged: seb recipe.lr=0.00" in told
    assert ("yet best, for nothing sound was left: seb recipe.lr=0.003 (1 run)" in told) is (trained[-1] == (0.003, 1))
    assert "The search took 6 runs, 6 h" in told  # not those that were passed over
    again = Trainings(tmp_path / "runs", peak(0.003), ends, diverges).run(plan(replace(TUNE, widen=0)))
    assert not collect_study(again.found, STUDY, "exfuse train", False, tmp_path / "study", again.search)


def test_a_search_by_other_code_than_the_tables_runs_is_told(tmp_path):
    planned = Trainings(tmp_path / "runs", peak(0.003)).run(plan())
    collect_study(planned.found, STUDY, "exfuse train", False, tmp_path / "study", planned.search)
    study = load_study(tmp_path / "study")
    assert "The search's runs are of" not in " ".join(about_search(study))

    def with_code(record, commit, **code):
        return replace(record, environment=replace(record.environment, commit=commit * 40, code=code))

    searched = {key: with_code(record, "a", gate="1", own="1") for key, record in study.searched.items()}
    told = " ".join(about_search(replace(study, searched=searched)))
    assert "The search's runs are of another commit than the table's." in told
    assert "code" not in told.partition("The search's runs are of")[2].partition("than")[0]  # the table's have none of it
    other = {
        seed: dataclasses.replace(run, record=with_code(run.record, "b", gate="1", own="2"))
        for seed, run in study.rows[0].runs.items()
    }
    rows = (dataclasses.replace(study.rows[0], runs=other), *study.rows[1:])
    changed = replace(study, searched=searched, rows=rows)
    assert "The search's runs are of other code of own than the table's." in " ".join(about_search(changed))


def test_what_is_next_best_at_the_end_of_the_grid_widens_it_for_all_rows(tmp_path):
    """Row and rate of the runs that were trained once SEB had diverged: the search's, then those of the table."""
    trainings = Trainings(tmp_path, lambda _, lr: 1 - abs(lr - (0.0003 if lr < 0.001 else 0.003)), diverges=late([0.003], 0))
    planned = trainings.run(plan(replace(TUNE, widen=1)))
    assert planned.search.grid == {"recipe.lr": [0.001, 0.003, 0.01, 0.00033]}
    assert [len(wave) for wave in trainings.waves] == [6, 2]
    assert trainings.stages.index(trainings.waves[1]) == 2  # after the first runs with all of train
    taken = {one.row: one.overrides[-1] for one in planned.found}
    assert taken == {"baseline": "recipe.lr=0.003", "seb": "recipe.lr=0.00033"}


def test_a_row_that_diverges_in_all_of_its_search_is_trained_at_the_best_and_searched_below(tmp_path):
    trainings = Trainings(tmp_path, lambda _, lr: 1 / (1 + lr), diverges=lambda job: job["ablation"] == "seb")
    planned = trainings.run(plan(replace(TUNE, widen=1)))
    assert planned.search.grid == {"recipe.lr": [0.001, 0.003, 0.01, 0.00033]}
    assert {one.overrides[-1] for one in planned.found if one.row == "seb"} == {"recipe.lr=0.00033"}
    assert {one.status for one in planned.found} == {DONE}


def test_a_run_that_failed_for_another_reason_passes_nothing_over(tmp_path):
    trainings = Trainings(tmp_path, peak(0.003), lambda job: DONE if job["seed"] == "1000" else FAILED)
    planned = trainings.run(plan())
    assert not planned.search.passed_over
    assert {(one.status, one.overrides[-1]) for one in planned.found} == {(FAILED, "recipe.lr=0.003")}


def _other_settings(study):
    study["passed_over"]["seb"][0]["settings"] = {"recipe.lr": 0.001}


def _not_tried(study):
    study["passed_over"]["seb"][0]["settings"] = {"recipe.lr": 7.0}


def _twice(study):
    study["passed_over"]["seb"] *= 2


def _of_search(study):
    study["passed_over"]["seb"][0] = study["trials"]["seb"][0]


def _of_no_row(study):
    study["passed_over"]["ghost"] = study["passed_over"].pop("seb")


def _swapped(study):
    first, second, *_ = study["trials"]["seb"]
    first["key"], second["key"] = second["key"], first["key"]


def _without_trials(study):
    del study["trials"]["seb"], study["passed_over"]["seb"]


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (_other_settings, r"tried recipe\.lr=0\.001 by run .* which had 0\.003"),
        (_not_tried, r"tried recipe\.lr=7\.0 by run"),
        (_twice, "names run .* twice"),
        (_of_search, "names run .* twice|no row .* names this record"),
        (_of_no_row, "knows a row ghost"),
        (_swapped, r"which had 0\.00"),
        (_without_trials, "row seb took .* whose records say None|no row .* names this record"),
    ],
)
def test_a_search_that_its_records_do_not_give_is_refused(tmp_path, forge, says):
    planned = Trainings(tmp_path / "runs", peak(0.003), diverges=late([0.003], 0)).run(plan())
    collect_study(planned.found, STUDY, "exfuse train", False, tmp_path / "study", planned.search)
    load_study(tmp_path / "study")
    edit_study(tmp_path / "study", lambda study: forge(study["tuning"]))
    with pytest.raises(UserError, match=says):
        load_study(tmp_path / "study")


def test_what_was_passed_over_needs_a_run_that_is_there_and_diverged(tmp_path):
    planned = Trainings(tmp_path / "runs", peak(0.003), diverges=late([0.003], 0)).run(plan())
    collect_study(planned.found, STUDY, "exfuse train", False, tmp_path / "study", planned.search)
    folder = RunFolder(tmp_path / "study" / "search", planned.search.passed_over[0][2].key)
    sound = replace(folder.record(), health=replace(folder.record().health, highest_loss=0.0))
    folder.write(sound)
    with pytest.raises(UserError, match="did not diverge with all of train"):
        load_study(tmp_path / "study")
    shutil.rmtree(folder.path)
    with pytest.raises(UserError, match="which is not there"):
        load_study(tmp_path / "study")


STUDY = DeclaredStudy(
    name="x", title="X", question="?", rows={"baseline": DeclaredRow(), "seb": DeclaredRow(builds_on="baseline")}, tune=TUNE
)


def only_search(job):
    return DONE if job["seed"] == "1000" else KILLED


def collected(tmp_path):
    """A study's folder whose search is done, of whose own runs none is."""
    planned = Trainings(tmp_path / "runs", peak(0.003), only_search).run(plan())
    collect_study(planned.found, STUDY, "exfuse train", False, tmp_path / "study", planned.search)
    return tmp_path / "study"


def test_a_study_keeps_its_search_small_and_reads_it_back(tmp_path):
    folder = collected(tmp_path)
    study = load_study(folder)
    assert study.tuning.chosen == {"baseline": {"recipe.lr": 0.003}, "seb": {"recipe.lr": 0.003}}
    assert not study.tuning.at_end("seb")
    assert len(study.searched) == 6
    assert {path.name for path in (folder / "search").glob("*/*")} == {"record.json"}
    again = Trainings(tmp_path / "runs", peak(0.003), only_search).run(plan())
    assert not collect_study(again.found, STUDY, "exfuse train", False, folder, again.search)


def test_a_choice_that_the_searchs_records_do_not_give_is_refused(tmp_path):
    folder = collected(tmp_path)
    path = folder / "study.json"
    before = path.read_bytes()
    edit_study(folder, lambda study: study["tuning"]["chosen"].update(seb={"recipe.lr": 0.01}))
    with pytest.raises(UserError, match="from its search, whose records say"):
        load_study(folder)
    path.write_bytes(before)
    shutil.rmtree(next((folder / "search").iterdir()))
    with pytest.raises(UserError, match="whose records say None"):
        load_study(folder)


@pytest.fixture
def own_data(tmp_path):
    """A data set of one's own without val: four objects of 20 pixels an image."""
    root = tmp_path / "own"
    for number in range(20):
        ids = np.random.default_rng(number).integers(1, 21, (2, 2)).repeat(20, 0).repeat(20, 1).astype(np.uint8)
        save_image(root / "train" / "images" / f"{number:02d}.png", 40, 40, seed=number)
        save_mask(root / "train" / "labels" / f"{number:02d}.png", ids)
    (root / "classes.txt").write_text("\n".join(["background", *(f"class{number}" for number in range(20))]))
    return root


def test_a_search_reads_nothing_of_val_and_its_key_says_what_was_held_out(tmp_path, own_data):
    base = ["data=folder", f"data.root={own_data}", f"paths.runs={tmp_path}/runs", "pretraining.data.minimum_side=4"]
    held = ["held_out.share=0.2", "held_out.seed=5"]
    planned = plan_run(describe_run([*base, *held]))
    assert {name: len(split) for name, split in planned.splits.items()} == {"train": 16, "val": 4}
    keys = {planned.folder.key}
    for other in (["held_out.share=0.25", "held_out.seed=5"], ["held_out.share=0.2", "held_out.seed=6"]):
        keys.add(plan_run(describe_run([*base, *other])).folder.key)
    assert len(keys) == 3
    with pytest.raises(UserError, match=r"no folder .*val"):
        plan_run(describe_run(base))


def test_the_held_out_part_takes_no_part_in_the_searchs_pretraining(own_data):
    base = ["data=folder", f"data.root={own_data}", "pretraining.data.minimum_side=4"]
    described = describe_run([*base, "held_out.share=0.2", "held_out.seed=5"])
    held = {item.image for item in split_of(described, "val").items}
    learnt, scored = (read_labelled_split(described, split) for split in ("train", "val"))
    assert learnt.items
    assert not {item.image for item in learnt.items} & held
    assert {item.image for item in scored.items} <= held
    # a backbone of the whole of train is another
    shutil.copytree(own_data / "train", own_data / "val")
    assert find_backbone(described)[0].key != find_backbone(describe_run(base))[0].key


SEQUENCES = {"0001TP": 4, "0006R0": 6, "0016E5": 10}
FRAMES = [f"{name}_{frame:05d}" for name, frames in SEQUENCES.items() for frame in range(frames)]
OF_PATIENT = {name: "abcd"[number % 4] for number, name in enumerate(FRAMES)}  # a column that no name tells


@pytest.mark.parametrize(
    ("overrides", "group"),
    [
        (["data=camvid", "data.counts={train: null, val: null}"], lambda name: name.partition("_")[0]),
        (["data=folder", "data.groups=first_part"], lambda name: name.partition("_")[0]),
        (["data=folder", "data.groups='.*([0-9])'"], lambda name: name[-1]),
        (["data=folder", "data.groups=column"], OF_PATIENT.get),
    ],
    ids=["camvid", "first part", "expression", "column"],
)
def test_whole_groups_are_held_out_of_what_is_learnt_and_pretrained(tmp_path, overrides, group):
    for number, name in enumerate(FRAMES):
        ids = np.random.default_rng(number).integers(0, 11, (2, 2)).repeat(20, 0).repeat(20, 1).astype(np.uint8)
        save_image(tmp_path / "train" / "images" / f"{name}.png", 40, 40, seed=number)
        save_mask(tmp_path / "train" / "labels" / f"{name}.png", ids)
    (tmp_path / "classes.txt").write_text("\n".join(f"class{number}" for number in range(11)))
    (tmp_path / "train" / "groups.txt").write_text("".join(f"{name} {patient}\n" for name, patient in OF_PATIENT.items()))
    parts = []
    for seed in (5, 6, 7, 8):
        held = ["held_out.share=0.25", f"held_out.seed={seed}", "pretraining.data.minimum_side=4"]
        run = describe_run([*overrides, f"data.root={tmp_path}", *held])
        learnt, scored = ({item.id for item in split_of(run, part).items} for part in ("train", "val"))
        assert learnt | scored == {*FRAMES}
        assert not {group(name) for name in learnt} & {group(name) for name in scored}
        pretrained, checked = ({item.image.stem for item in read_labelled_split(run, part).items} for part in ("train", "val"))
        assert pretrained
        assert pretrained <= learnt
        assert checked <= scored
        parts.append(frozenset(scored))
    assert len({*parts}) > 1  # the seed draws which


def test_true_and_one_are_two_values_of_a_grid(tmp_path):
    searched = plan(DeclaredTune(grid={"+settings.flag": [1, True, 1]})).search
    assert searched is not None
    assert searched.grid == {"+settings.flag": [1, True]}
    assert len({named(0, settings) for settings in searched.tried(0)}) == 2
