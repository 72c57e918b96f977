"""Budgets: jobs as Hydra's sweeper makes them, shared pretrainings counted once, without any data."""

import csv
from pathlib import Path

import pytest

from exfuse.analysis.power import Trained, read_rates
from exfuse.composition import precision as formats
from exfuse.errors import ConfigError
from exfuse.runs.peak import resident_peak
from exfuse.sweeps.budget import Budget, plan_budget
from exfuse.sweeps.budget_report import assumptions, write_budget
from exfuse.sweeps.declared import compose_study
from exfuse.sweeps.step_cost import CPU_THREADS, GPU

PEAK = 3 * 2**30
SMALL = ["data=voc_aug", "data.root=/nowhere", "recipe.augmentation.crop=64", "pretraining=imagenet"]


@pytest.fixture(autouse=True)
def _peaks_elsewhere(monkeypatch):
    """How much memory steps take is looked at in tests/runs/test_peak.py."""
    for kind in ("segmentation", "pretraining"):
        monkeypatch.setattr(f"exfuse.sweeps.budget.{kind}_peak", lambda *_: PEAK)


def plan(*overrides):
    return plan_budget([*overrides, *SMALL], lambda *_: None)


def test_rows_share_pretrainings_and_seeds_are_runs():
    (budget,) = plan("+ablation=baseline,ss_heads_removed,ss_lr_seb", "seed=0,1")
    assert [(row.name, row.runs) for row in budget.rows.values()] == [
        ("baseline", 2),
        ("ss_heads_removed", 2),
        ("ss_lr_seb", 2),
    ]
    assert [(each.name, each.runs) for each in budget.pretrainings.values()] == [
        (f"backbone {name}, ImageNet, 100 epochs", 1) for name in ("plain", "SS", "SS+LR")
    ]
    assert {each.images for each in budget.pretrainings.values()} == {100 * 1281167}
    baseline, ss, ss_lr_seb = (row.cost.gigaflops for row in budget.rows.values())
    assert baseline == ss < ss_lr_seb  # SS's branches are thrown away
    assert budget.hours() == pytest.approx(sum(each.hours(GPU) for each in budget.trainings()))


def test_a_study_is_swept_and_what_is_typed_wins_over_it():
    budgets = plan(
        "+study=dap_kernel", "study.tune=null", "seed=5", "backbone=resnet_tiny,efficientnet_lite0", "backbone.init=random"
    )
    assert [budget.backbone for budget in budgets] == ["resnet_tiny", "efficientnet_lite0"]
    for budget in budgets:
        assert {(row.runs, row.images) for row in budget.rows.values()} == {(1, 12 * 10582)}
        assert len(budget.rows) == 4
        assert not budget.pretrainings


def test_options_may_be_named_by_a_pattern_and_rows_are_called_as_their_study_calls_them():
    (budget,) = plan("technique/seb=glob(*,exclude=con*)", "seed=0", "backbone.init=random")
    assert {row.name for row in budget.rows.values()} == {"baseline", "seb-gate", "seb-product", "seb-sum"}
    (budget,) = plan("+study=table1_levels", "seed=0", "backbone.init=random")
    assert {row.name for row in budget.rows.values()} == {*declared_rows("table1_levels")}


def declared_rows(name):
    return compose_study([f"+study={name}"])[0].rows


def test_files_hold_every_training_and_the_sum(tmp_path):
    budgets = plan("+ablation=baseline,seb", "seed=0,1", "sweep.until=decided", "sweep.most.seeds=7")
    paths = write_budget(tmp_path / "new", budgets, "exfuse budget ...")
    text = paths[0].read_text()
    assert "exfuse budget ..." in text
    assert "60 TFLOP/s" in text
    assert "2 seeds of every row are counted, and up to 7 trained (sweep.most): at most 3.5 times" in text
    assert "sweep.until" not in assumptions(Budget("b", "d", "r"))
    for most, told in ((7, "2.4"), (3000, "1,000.0"), (30000, "10,000")):
        assert f"at most {told.removesuffix('.0')} times" in assumptions(Budget("b", "d", "r", grows=(3, most)))
    held_out = plan("+ablation=baseline", "seed=0,1", "held_out.share=0.25", "sweep.until=decided", "sweep.most.seeds=7")
    assert held_out[0].grows == (2, 7)
    with pytest.raises(ConfigError, match=r"sweep\.most\.seeds=2: expected at least 3"):
        plan("+ablation=baseline", "seed=0,1,2", "sweep.until=decided", "sweep.most.seeds=2")
    rows = [*csv.DictReader(paths[1].open())]
    assert [(row["training"], row["runs"]) for row in rows] == [
        ("backbone plain, ImageNet, 100 epochs", "1"), ("baseline", "2"), ("seb", "2"), ("all", "5"),
    ]  # fmt: skip
    assert [row["peak GiB"] for row in rows] == ["3.00", "3.00", "3.00", ""]
    assert "allocator" in text
    assert "8 at once" in text
    assert float(rows[-1]["GPU hours"]) == pytest.approx(budgets[0].hours(), rel=0.05)
    assert "measured" not in rows[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["+study=tabel3"], "table3_techniques"),
        (["backbone.colour=red"], "Keys of backbone: name, init"),
        (["--tflops", "0"], "tflops=0"),
        ([""], "'': expected key=value"),
        (["outputs/studies/x"], "'outputs/studies/x': expected key=value, or with detect=POINTS one folder"),
        (["detect=1", "a", "b"], "'b': expected key=value"),
        (["data=voc_coco", "data.coco_root=/nowhere", "backbone.init=random"], "no /nowhere/voc_masks/train2017/index.json"),
    ],
)
def test_mistakes_get_one_line(arguments, says, command):
    status, _, told = command("budget", *arguments)
    assert status == 1
    assert says in told
    assert "Traceback" not in told


def test_a_studys_search_is_counted_with_it():
    (budget,) = plan("+study=table3_techniques", "backbone=resnet_tiny", "backbone.init=random", "recipe.epochs=10", "seed=0")
    rows = {row.name: (row.runs, row.images) for row in budget.rows.values()}
    assert rows["baseline"] == (1, 10 * 10582)
    assert rows["baseline, search"] == (3, 3 * round(0.8 * 10582))
    assert len(rows) == 14
    (untuned,) = plan("+study=table3_techniques", "study.tune=null", "backbone.init=random", "seed=0")
    assert len(untuned.rows) == 7


def test_backbones_of_every_seed_are_one_line(scenes_folder):
    own = ["data=scenes", f"data.root={scenes_folder}", "data.images.train=16", "data.images.val=5", "data.size=64"]
    (budget,) = plan_budget(["+study=table3_last", "study.tune=null", "seed=0,1", *own], lambda *_: None)
    assert {training.runs for training in budget.trainings()} == {2}
    assert len(budget.pretrainings) == 3


def test_other_data_are_other_backbones(tmp_path):
    sizes = ["data.images.train=12", "data.images.val=5", "data.size=64"]
    data = ["data=scenes", f"data.root={tmp_path}/a,{tmp_path}/b", *sizes]
    (budget,) = plan_budget(["+ablation=ss", "trainer=cpu", *data], lambda *_: None)
    assert [made.runs for made in budget.pretrainings.values()] == [2]


def test_memory_is_that_of_the_images_that_a_device_takes_and_on_a_cpu_of_the_process():
    (budget,) = plan("+ablation=baseline", "trainer.accumulate_grad_batches=2", "recipe.batch_size=8", "backbone.init=random")
    assert "4 at once" in budget.recipe
    (budget,) = plan("+ablation=baseline", "trainer=cpu", "backbone.init=random")
    assert [row.peak for row in budget.rows.values()] == [resident_peak(PEAK)]
    assert "of the process" in assumptions(budget)


def test_a_cpu_is_priced_as_a_thread_of_one_unless_something_else_is_said(monkeypatch):
    words = ["+ablation=baseline", "trainer=cpu", "backbone.init=random"]
    (half,) = plan(*words, "trainer.precision=bf16-mixed")
    assert half.device == CPU_THREADS[2]
    assert "one CPU thread that sustains 0.13 TFLOP/s" in assumptions(half)
    (single,) = plan(*words)  # trainer=cpu calculates in float32
    assert single.device == CPU_THREADS[4]
    assert "4 bytes a number" in assumptions(single)
    assert single.hours() > half.hours()
    for has_bfloat16, same in ((False, single), (True, half)):
        monkeypatch.setattr(formats, "processor_knows_bfloat16", lambda has=has_bfloat16: has)
        (by_itself,) = plan(*words, "trainer.precision=auto")
        assert by_itself.hours() == same.hours()
    (faster,) = plan_budget([*words, *SMALL], lambda *_: None, tflops=1.0)
    assert faster.device == CPU_THREADS[4]._replace(tflops=1.0)
    assert faster.hours() < single.hours()


@pytest.mark.parametrize(("precision", "element"), [("auto", 2), ("bf16-mixed", 2), ("16-mixed", 2), ("32-true", 4)])
def test_a_gpu_moves_numbers_of_the_runs_format(precision, element):
    (budget,) = plan("+ablation=baseline", "backbone.init=random", f"trainer.precision={precision}")
    assert budget.device == GPU._replace(element=element)


def test_what_is_counted_stands_beside_what_runs_took(command, tmp_path):
    study = Path(__file__).parents[2] / "experiments" / "table3_scenes"
    words = (
        "trainer=cpu",
        "trainer.precision=bf16-mixed",
        "+study=table3_techniques",
        "seed=0",
        "study.tune=null",
        "backbone=resnet_tiny",
        "backbone.init=random",
        "recipe.epochs=30",
        *SMALL,
    )
    _, told, _ = command("budget", *words, f"pilot={study}")  # crops of other sides
    assert "measured" not in told
    assert f"Note: no run of {study} is of a row that is counted here" in " ".join(told.split())
    words += ("recipe.augmentation.crop=96",)
    status, _, told = command("budget", *words, f"pilot={study}", f"output={tmp_path / 'budget'}")
    assert status == 0, told
    rows = {row["training"]: row for row in csv.DictReader((tmp_path / "budget" / "budget.csv").open())}
    rates = read_rates(study)
    assert float(rows["baseline"]["measured"]) == pytest.approx(
        10582 * 30 / rates[Trained("baseline", "resnet_tiny", 96, "bf16-mixed", True)] / 3600, rel=0.05
    )
    assert rows["all"]["measured"] == ""
    assert f"pilot={study}" in (tmp_path / "budget" / "budget.md").read_text()


def test_rows_of_several_number_formats_are_each_priced_by_their_own():
    words = ("+ablation=baseline", "backbone.init=random")
    formats = ("32-true", "bf16-mixed")
    alone = [plan(*words, f"trainer.precision={one}")[0].hours() for one in formats]
    for order in (formats, formats[::-1]):
        together = plan(*words, f"trainer.precision={','.join(order)}")
        assert {one.device.element: one.hours() for one in together} == {4: alone[0], 2: alone[1]}
