"""Studies whose rows are lists of overrides, declared in a file or made from what a sweep varies."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert, to_builtins

from exfuse.config.overrides import compose_hydra, describe_run
from exfuse.errors import UserError
from exfuse.store.description import RunDescription, to_plain
from exfuse.store.key import run_key
from exfuse.store.study_reading import load_study
from exfuse.store.tuning import DeclaredTune
from exfuse.sweeps.declared import DeclaredStudy, read_study, split
from exfuse.sweeps.rows import check_rows
from exfuse.sweeps.stages import Plan
from exfuse.sweeps.supervisor import row_name
from exfuse.sweeps.tuning import Job, overridden_key
from tests.analysis.synthetic import StudyBuilder
from tests.command import Command
from tests.small_runs import SMALL

LOW, HIGH = ["recipe.lr=0.001"], ["recipe.lr=0.003", "+ablation=seb"]
ROWS = {"low": {"overrides": LOW}, "high": {"overrides": HIGH, "builds_on": "low"}}
STUDY = {"name": "mine", "title": "Mine", "rows": ROWS}


def study_of(rows: dict[str, Any]) -> dict[str, Any]:
    return STUDY | {"rows": rows}


def jobs_of(*typed: str, study: dict[str, Any] = STUDY, **params: str) -> tuple[DeclaredStudy, list[Job]]:
    return read_study(study, split(params or {"seed": "0,1"}, typed))


def rows_of(jobs: Sequence[Job]) -> list[Job]:
    return [list(row) for row in dict.fromkeys(tuple(one for one in job if overridden_key(one) != "seed") for job in jobs)]


def test_every_row_runs_by_its_own_overrides_with_every_seed() -> None:
    study, jobs = jobs_of("trainer=cpu")
    assert jobs == [
        [*own, f"seed={seed}", "trainer=cpu", f"sweep.row={name}"]
        for name, own in (("low", LOW), ("high", HIGH))
        for seed in (0, 1)
    ]
    assert study.overrides == {"low": LOW, "high": HIGH}


@pytest.mark.parametrize(
    ("typed", "rows", "seeds"),
    [
        (["seed=5"], ["low", "high"], [5]),
        (["sweep.row=high"], ["high"], [0, 1]),
        (["sweep.row=high,low", "seed=3"], ["low", "high"], [3]),
    ],
)
def test_rows_and_seeds_can_be_picked(typed: list[str], rows: list[str], seeds: list[int]) -> None:
    _, jobs = jobs_of(*typed)
    found = [(describe_run(job).sweep.row, describe_run(job).seed) for job in jobs]  # type: ignore[union-attr]
    assert found == [(row, seed) for row in rows for seed in seeds]


def test_what_is_typed_wins_over_a_row_and_rows_that_are_then_one_run_are_refused_by_name() -> None:
    study, jobs = jobs_of("recipe.lr=0.01", "technique/seb=none")
    assert {describe_run(job).recipe.lr for job in jobs} == {0.01}
    assert study.overrides == {"low": [], "high": ["+ablation=seb"]}
    with pytest.raises(UserError, match="rows low and high are the same run"):
        check_rows(study, rows_of(jobs), describe_run)


def test_options_that_do_the_same_under_what_is_typed_are_one_run() -> None:
    rows = {name: {"overrides": [f"technique/ecre={name}"]} for name in ("subpixel", "subpixel_supervised")}
    study, jobs = jobs_of(study=study_of(rows))
    check_rows(study, rows_of(jobs), describe_run)
    study, jobs = jobs_of("technique.ecre.auxiliary_weight=0.7", study=study_of(rows))
    with pytest.raises(UserError, match="rows subpixel and subpixel_supervised are the same run"):
        check_rows(study, rows_of(jobs), describe_run)


def test_a_row_is_called_as_the_file_says_and_so_is_its_run() -> None:
    described = describe_run(jobs_of()[1][-1])
    assert (row_name(described), described.name) == ("high", "high")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"a": {"overrides": LOW}, "b": None}, "row b has no overrides"),
        ({"a": {"overrides": LOW}, "b": {"builds_on": "a"}}, "row b has no overrides"),
        ({"a": {"overrides": LOW, "builds_on": "c"}, "b": {"overrides": HIGH}}, "row a builds on 'c'"),
        ({"a": {"overrides": []}}, "row a: its list of overrides is empty"),
        ({"a": {"overrides": ["recipe.lr=1", "++recipe.lr=2"]}}, r"row a: recipe\.lr stands in it twice"),
        ({"a": {"overrides": ["technique/seb=none,product"]}}, "row a: .* would be swept"),
        ({"a": {"overrides": ["seed=1"]}}, "row a: seed=1 is the study's"),
        ({"a": {"overrides": ["hydra/launcher=ray"]}}, "row a: hydra/launcher=ray is the study's"),
        ({"a": {"overrides": ["sweep.until=decided"]}}, "row a: sweep"),
        ({"a": {"overrides": ["baseline"]}}, "row a: 'baseline' is no override"),
        ({"a": {"overrides": [3]}}, r"rows.*overrides"),
        ({"a": {"overrides": "recipe.lr=1"}}, r"rows.*overrides"),
        ({"a": {"overrides": [{"recipe.lr": 1}]}}, r"rows.*overrides"),
    ],
    ids=str,
)
def test_overrides_that_make_no_row_are_refused_in_a_line(rows: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        jobs_of(study=study_of(rows))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("rows", "typed", "said"),
    [
        ({"a": {"overrides": ["recipe.lrr=1"]}}, [], r"row a: .*Did you mean 'lr'"),
        ({"a": {"overrides": ["technique/seb=prodct"]}}, [], r"row a: .*Did you mean 'product'"),
        ({"a": {"overrides": ["recipe.epochs=many"]}}, [], r"row a: recipe\.epochs=many: expected"),
        ({"a": {"overrides": LOW}, "b": {"overrides": ["recipe.lr=1e-3"]}}, [], "rows a and b are the same run"),
        ({"a": {"overrides": LOW}, "b": {"overrides": [*LOW, "runtime.workers=1"]}}, [], "rows a and b are the same run"),
        ({"a": {"overrides": LOW}, "b": {"overrides": [*LOW, "data.name=others"]}}, [], "rows a and b are the same run"),
        (
            {"a": {"overrides": ["data.root=outputs"]}, "b": {"overrides": ["data.root=tests/../outputs"]}},
            [],
            "rows a and b are the same run",
        ),
        ({"a": {"overrides": ["+ablation=ss"]}, "b": {"overrides": ["+ablation=ss_second_conv"]}}, [], "rows a and b are"),
        ({"a": {"overrides": LOW}}, ["recipe.epochs=1,2"], r"row a would have two settings.*recipe\.epochs=1"),
        (
            {"a": {"overrides": [*LOW, "runtime.micro_batch=2", "trainer.accumulate_grad_batches=2"]}},
            [],
            "row a: runtime.micro_batch says what",
        ),
        (
            {"a": {"overrides": HIGH, "label": "dap-last"}},
            [],
            "row a: its label is dap-last",
        ),
    ],
    ids=str,
)
def test_rows_that_cannot_stand_in_one_table_are_refused_before_anything_is_trained(
    rows: dict[str, Any], typed: list[str], said: str
) -> None:
    study, jobs = jobs_of(*typed, study=study_of(rows))
    with pytest.raises(UserError, match=said) as refused:
        check_rows(study, rows_of(jobs), describe_run)
    assert len(str(refused.value).splitlines()) == 1


def test_rows_that_differ_in_the_parts_of_a_batch_are_two() -> None:
    rows = {f"by {images}": {"overrides": [f"runtime.micro_batch={images}"]} for images in (1, 2)}
    study, jobs = jobs_of(study=study_of(rows))
    assert len(check_rows(study, rows_of(jobs), describe_run)) == 2
    same = {name: {"overrides": [*row["overrides"], "recipe.batch_size=1"]} for name, row in rows.items()}
    study, jobs = jobs_of(study=study_of(same))
    with pytest.raises(UserError, match="rows by 1 and by 2 are the same run"):
        check_rows(study, rows_of(jobs), describe_run)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["sweep.row=hihg"], "sweep.row=hihg: there is no such row. Rows: low, high"),
        (["seed=0,0"], "0 is listed twice"),
    ],
)
def test_a_sweep_over_rows_that_there_are_not_is_refused(typed: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        jobs_of(*typed)


VARY = {"name": "vary", "title": "", "baseline": ""}


def test_rows_of_a_study_without_any_are_what_its_sweep_varies() -> None:
    typed = ["technique/dap=last", "technique.dap.window=3,5", "recipe.lr=1e-3,3e-3"]
    baseline = "recipe.lr=1e-3 technique.dap.window=5"
    study, jobs = jobs_of(*typed, study=VARY | {"baseline": baseline})
    names = [f"technique.dap.window={window} recipe.lr={lr}" for window in (3, 5) for lr in (0.001, 0.003)]
    assert [*study.rows] == names
    assert [row.builds_on for row in study.rows.values() if row] == [names[2], names[2], None, names[2]]
    assert (study.name, study.title) == ("vary-technique.dap.window+recipe.lr", "technique.dap.window, recipe.lr varied")
    described = [describe_run(job) for job in jobs]
    assert [(row_name(one), one.seed) for one in described] == [(name, seed) for name in names for seed in (0, 1)]
    assert [one.technique["dap"].settings["window"] for one in described[::2]] == [3, 3, 5, 5]
    check_rows(study, rows_of(jobs), describe_run)


@pytest.mark.parametrize(
    ("typed", "baseline", "said"),
    [
        (["recipe.lr=1e-3"], "", "Nothing is varied"),
        ([], "", "Nothing is varied"),
        (["recipe.lr=1e-3,0.001"], "", "0.001 is listed twice"),
        (["recipe.lr=1e-3,2e-3"], "recipe.lr=1", "baseline=recipe.lr=1: there is no such row. Rows: recipe.lr=0.001, recipe"),
        (["recipe.lr=1e-3,2e-3"], "low", "baseline=low: there is no such row"),
        (["recipe.lr=1e-3,2e-3", "recipe.epochs=1,2"], "recipe.lr=1e-3", "this is 2 rows, name one"),
        (["hydra/launcher=ray,basic"], "", "is the study's to say"),
    ],
)
def test_what_cannot_be_varied_is_refused_in_a_line(typed: list[str], baseline: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        jobs_of(*typed, study=VARY | {"baseline": baseline})
    assert len(str(refused.value).splitlines()) == 1


def test_a_baseline_is_of_rows_that_a_sweep_makes() -> None:
    with pytest.raises(UserError, match="study without rows"):
        jobs_of(study=STUDY | {"baseline": "low"})
    with pytest.raises(UserError, match="rows can be picked"):
        jobs_of("sweep.row=low", study=STUDY | {"rows": {}})


def test_the_photographs_rows_are_the_runs_that_their_overrides_make_alone() -> None:
    common = ["data=voc_animals_aug", "backbone=efficientnet_lite0", "recipe=photos", "trainer.precision=bf16-mixed"]
    config = compose_hydra("train", ["+study=table3_photos"])
    study, jobs = read_study(config.study, split(config.hydra.sweeper.params, ["+study=table3_photos"]))
    assert len(jobs) == 24
    rows = rows_of(jobs)
    check_rows(study, rows, describe_run)
    for row, own in zip(rows, study.overrides.values(), strict=True):
        swept, single = describe_run(row), describe_run([*common, "runtime.channels_last=true", *own])
        assert facts(swept) == facts(single)
    assert study.tune is not None
    techniques = describe_run(["+study=table3_techniques"]).study
    assert techniques is not None
    assert study.tune == convert(techniques["tune"] | {"widen": 1}, DeclaredTune)


def facts(run: RunDescription) -> tuple[str, dict[str, Any]]:
    """The key on the same data, and all that is said but what a run is called."""
    return run_key(run, {}), {name: part for name, part in to_plain(run).items() if name not in ("name", "choices")}


def test_a_search_tries_a_row_s_own_settings() -> None:
    tune = {"grid": {"recipe.weight_decay": [0.1, 0.2], "recipe.lr": [1.0]}, "held_out": 0.25}
    study, jobs = jobs_of(study=STUDY | {"tune": tune})
    search = Plan(jobs, study.tune, 0, describe_run).search
    assert search is not None
    assert [*search.grid] == ["recipe.weight_decay"]  # what a row says itself is not searched
    tried = [describe_run(job) for job in search.jobs()]
    assert [(row_name(run), run.recipe.lr, run.recipe.weight_decay) for run in tried] == [
        (name, lr, decay) for decay in (0.1, 0.2) for name, lr in (("low", 0.001), ("high", 0.003))
    ]


def rated(tmp_path: Path, rates: dict[str, list[float]], said: dict[str, float] | None = None) -> Path:
    """A study of two rows that differ in the learning rates of their seeds' runs, and what it says of the rows."""
    settings = {name: {"recipe.lr": lr} for name, lr in (said or {}).items()}
    builder = StudyBuilder(tmp_path / "study", overrides={name: [f"recipe.lr={one[0]}"] for name, one in rates.items()})
    builder.content["settings"] = settings
    for name, of_seeds in rates.items():
        for_seed = iter(of_seeds)
        change = lambda record, rate=for_seed: record["config"]["recipe"].update(lr=next(rate))  # noqa: E731
        builder.row(name, 0.7, on=None if name == "low" else "low", change=change)
    return builder.finish()


def test_what_rows_differ_in_by_their_overrides_is_no_deviation_and_anything_else_is(tmp_path: Path) -> None:
    rates = {"low": [0.1] * 3, "high": [0.3] * 3}
    assert load_study(rated(tmp_path / "a", rates, {"low": 0.1, "high": 0.3})).deviations == ()
    with pytest.raises(UserError, match=r"recipe\.lr"):
        load_study(rated(tmp_path / "b", rates))
    with pytest.raises(UserError, match=r"recipe\.lr.*0\.2 \(high seed 2\)"):
        load_study(rated(tmp_path / "c", rates | {"high": [0.3, 0.3, 0.2]}, {"low": 0.1, "high": 0.3}))


def test_the_verb_makes_a_study_of_its_line_and_trains_nothing_where_rows_are_wrong(
    command: Command, scenes_folder: Path, tmp_path: Path
) -> None:
    places = [f"data.root={scenes_folder}", f"paths.runs={tmp_path}/runs", f"sweep.output={tmp_path}/study"]
    line = ["study", "vary", *SMALL, *places, f"hydra.sweep.dir={tmp_path}/sweep", "seed=0,1", "sweep.missing=skip"]
    status, _, told = command(*line, "recipe.lr=1e-3,3e-3", "baseline=recipe.lr=1e-2")
    assert (status, told.count("\n")) == (1, 1)
    assert "there is no such row" in told
    status, _, told = command(*line, "runtime.prefetch=1,2")
    assert (status, told.count("\n")) == (1, 1)
    assert "runtime.prefetch=1 and runtime.prefetch=2 are the same run" in told
    assert not (tmp_path / "study").exists()
    assert not (tmp_path / "sweep").exists()

    status, said, told = command(*line, "recipe.lr=1e-3,3e-3", "baseline=recipe.lr=3e-3")
    assert "4 missing" in said, told
    study = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [(row["name"], row["on"]) for row in study["rows"]] == [
        ("recipe.lr=0.001", "recipe.lr=0.003"),
        ("recipe.lr=0.003", None),
    ]
    assert "'study.baseline=\"recipe.lr=3e-3\"'" in study["command"]


def test_a_study_of_many_settings_has_a_name_that_its_file_may_have() -> None:
    keys = [f"recipe.augmentation.{name}" for name in ("crop", "flip", "colour")] + ["trainer.gradient_clip_val", "recipe.lr"]
    jobs = [[f"{key}={value}" for key in keys] for value in (1, 2)]
    study, _ = read_study({"name": "vary", "title": "Vary", "baseline": ""}, jobs)
    assert len(study.name) <= 80
    assert convert(to_builtins(study), DeclaredStudy) == study  # as a file is read back
