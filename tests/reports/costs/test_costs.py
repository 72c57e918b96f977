"""`exfuse report costs` on real models without a training: turns, steps, numbers, refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch.nn.utils import clip_grad_norm_

from exfuse.analysis.document import TIMES
from exfuse.analysis.rendering import check_study
from exfuse.composition.segmentation import build_model
from exfuse.errors import ConfigError, UserError
from exfuse.reports.costs import command, turns
from exfuse.reports.costs.command import measure_costs
from exfuse.reports.costs.turns import (
    Subject,
    Turn,
    Variant,
    build_from_record,
    find_variants,
    peak_mib,
    quartiles,
    take_rounds,
    weigh,
)
from exfuse.runs.step import TrainingStep, random_batch
from exfuse.store.description import RunDescription, from_plain, to_plain
from exfuse.store.measured_costs import FILE, read_costs
from exfuse.store.record import Record
from exfuse.store.study_reading import load_study
from exfuse.tasks import layout
from exfuse.tasks.segmentation import segmentation_loss
from tests.cli.test_cli import output_of
from tests.described import arguments_of, changed

CPU = torch.device("cpu")
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def study(tiny_study: Make) -> Path:
    """A study that no test may change."""
    return tiny_study()


def config(*overrides: str) -> dict[str, Any]:
    return arguments_of("report_costs", *overrides)


def variants_of(folder: Path) -> list[Variant]:
    return find_variants(load_study(folder))[0]


class Noted:
    """A subject that notes when its turn came and answers with a number that grows."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name, self.order, self.turns = name, order, 0

    def turn(self, device: torch.device, repeats: int) -> Turn:
        assert device == CPU
        self.order.append(self.name)
        self.turns += 1
        return Turn(10.0 * self.turns, float(repeats), 1.0)


def test_rows_take_turns_and_the_first_round_is_not_kept():
    order: list[str] = []
    advanced: list[None] = []
    found = take_rounds([Noted(name, order) for name in "abc"], 2, 5, CPU, lambda: advanced.append(None))
    assert order == list("abcabcabc")
    assert len(advanced) == 9
    assert found == [[Turn(20.0, 5.0, 1.0), Turn(30.0, 5.0, 1.0)]] * 3


def test_what_is_left_of_rounds_is_median_and_quartiles():
    found = quartiles([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert found.share == pytest.approx(1 / 3)


def test_rows_of_one_model_and_its_seeds_are_one_variant(study):
    assert [variant.rows for variant in variants_of(study)] == [["baseline", "again"], ["seb_ecre"]]


def test_a_row_without_a_finished_run_is_left_out_by_name(tiny_study):
    folder = tiny_study()
    for path in (folder / "records").glob("00000001*/record.json"):
        path.unlink()
    variants, left_out = find_variants(load_study(folder))
    assert [variant.rows for variant in variants] == [["baseline", "again"]]
    assert left_out == ["seb_ecre: no finished run"]


def test_a_model_is_the_one_that_was_trained_and_another_is_refused(study, tiny_study):
    baseline, other = variants_of(study)
    for variant in (baseline, other):
        _, task = build_from_record(variant)
        assert sum(one.numel() for one in task.model.parameters()) == variant.record.parameters
        assert task.classes == variant.record.classes
    (altered, _) = variants_of(tiny_study(lambda content: content.update(parameters=content["parameters"] + 1)))
    with pytest.raises(UserError, match="the code has changed since commit ccccccc"):
        build_from_record(altered)


def test_a_record_that_this_version_cannot_build_is_one_clear_line(tiny_study):
    folder = tiny_study(lambda content: content["config"]["decoder"].update(option="gone"))
    with pytest.raises(UserError, match="row baseline cannot be built from its record") as caught:
        build_from_record(variants_of(folder)[0])
    assert "\n" not in str(caught.value)


def test_a_step_is_what_the_formula_says(study):
    """Two steps against the same by hand: sum of losses, clipping, the recipe's optimiser; and half batches accumulated."""
    variant = variants_of(study)[1]
    (made, measured), (_, plain) = build_from_record(variant), build_from_record(variant)
    step = TrainingStep(measured, changed(made, "trainer.gradient_clip_val", 0.1), 2)
    optimizer = plain.train().build_optimizer()
    batch = random_batch(2, 32, 4, CPU)
    for _ in range(2):
        step()
        optimizer.zero_grad()
        prediction = plain.model(batch["image"].contiguous(memory_format=torch.channels_last))
        loss = segmentation_loss(prediction.scores, batch["mask"])
        for name, scores in prediction.auxiliary.items():
            loss = loss + plain.model.auxiliary_weights[name] * segmentation_loss(scores, batch["mask"])
        loss.backward()
        clip_grad_norm_(plain.parameters(), 0.1)
        optimizer.step()
    assert prediction.auxiliary  # ECRE's own loss is in it
    for one, other in zip(measured.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_accumulation_takes_the_batch_in_parts(study):
    subject = Subject(variants_of(study)[0])
    step = TrainingStep(subject.task, changed(subject.run, "trainer.accumulate_grad_batches", 2), 4)
    assert (step.images, len(step.batch["image"])) == (4, 2)
    seen: list[int] = []
    subject.task.model.register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    step()
    assert seen == [2, 2]


def test_half_precision_is_the_runs(study):
    subject = Subject(variants_of(study)[0])
    enabled: list[bool] = []
    subject.task.model.encoder.register_forward_hook(lambda *_: enabled.append(torch.is_autocast_enabled("cpu")))
    TrainingStep(subject.task, changed(subject.run, "trainer.precision", "bf16-mixed"), 2)()
    assert enabled == [True]
    with pytest.raises(ConfigError, match=r"trainer\.precision is 64-true"):
        TrainingStep(subject.task, changed(subject.run, "trainer.precision", "64-true"), 2)


def test_a_turn_measures_the_image_and_batch_asked_for_and_leaves_nothing_behind(study):
    subject = Subject(variants_of(study)[1], size=48, images=3)
    seen: list[tuple[bool, tuple[int, ...]]] = []
    subject.task.model.register_forward_hook(lambda model, images, _: seen.append((model.training, tuple(images[0].shape))))
    turn = subject.turn(CPU, repeats=2)
    assert seen == [(False, (1, 3, 48, 48))] * 3 + [(True, (3, 3, 32, 32))] * 3
    assert turn.latency_ms > 0
    assert turn.train_images_per_second > 0
    assert all(one.grad is None for one in subject.task.parameters())


@pytest.mark.parametrize("milliseconds", [[1.0, 2.0], [2.0, 1.0]], ids=["channels_last", "contiguous"])
def test_a_layout_that_the_run_leaves_open_is_the_one_that_a_training_would_choose(study, monkeypatch, milliseconds):
    """As on a GPU, with times made up; asked for once, and said."""
    asked: list[torch.device] = []
    said = iter(milliseconds)
    monkeypatch.setattr(turns, "is_worth_measuring", lambda _, device: not asked.append(device))
    monkeypatch.setattr(layout, "median_ms", lambda calls, *_: [calls[0](), next(said)][1:])
    subject = Subject(variants_of(study)[1])
    found = [subject.turn(CPU, repeats=1) for _ in range(2)]
    assert asked == [CPU]
    first = milliseconds[0] < milliseconds[1]
    assert subject.summarise(found, 1.0).layout == ("channels_last" if first else "contiguous")
    (kernel,) = {tuple(one.stride()) for one in subject.task.parameters() if one.shape[2:] == (7, 7)}
    assert (kernel[1] == 1) is first


def test_a_layout_that_the_run_names_or_that_a_cpu_decides_is_not_measured(study, monkeypatch):
    monkeypatch.setattr(turns, "is_faster_in_channels_last", lambda *_: pytest.fail("measured"))
    variant = variants_of(study)[0]
    named = changed(from_plain(variant.record.config, RunDescription), "runtime.channels_last", False)
    explicit = replace(variant, record=replace(variant.record, config=to_plain(named)))
    for one, expected in ((variant, "channels_last"), (explicit, "contiguous")):
        subject = Subject(one)
        turn = subject.turn(CPU, repeats=1)
        assert subject.summarise([turn], 1.0).layout == expected


def test_memory_that_is_too_small_is_said(study, monkeypatch):
    subject = Subject(variants_of(study)[0])

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("exfuse.reports.costs.turns.TrainingStep", full)
    with pytest.raises(UserError, match="Row baseline does not fit on cpu with 2 images a step"):
        subject.turn(CPU, 1)


def test_shapes_have_the_channels_of_the_data(study):
    variant = variants_of(study)[0]
    settings = variant.record.config["data"] | {"channels": 4, "range": [0, 255]}
    run = from_plain(variant.record.config | {"data": settings}, RunDescription)
    parameters = sum(one.numel() for one in build_model(run, len(variant.record.classes)).parameters())
    record = replace(variant.record, config=to_plain(run), parameters=parameters)
    subject = Subject(replace(variant, record=record), size=48, images=3)
    costs = subject.summarise([subject.turn(CPU, repeats=1)], 1.0)
    assert (costs.input, costs.batch) == ([1, 4, 48, 48], [3, 4, 32, 32])


def test_weighing_knows_what_the_process_held(study):
    threads = torch.get_num_threads()
    assert weigh(variants_of(study)[0], 2, threads) > 100


@pytest.mark.usefixtures("forked")
def test_a_process_of_its_own_weighs_a_variant_and_more_images_weigh_more(study):
    variant = variants_of(study)[1]
    few, many = (peak_mib(variant, images, 1) for images in (2, 96))
    assert 100 < few < many - 20


@pytest.mark.usefixtures("forked")
def test_a_failed_weighing_is_said(study):
    broken = replace(variants_of(study)[1], record=Record(key="x", status="done"))
    with pytest.raises(UserError, match="was to weigh row seb_ecre ended with status 1: ValueError: run x"):
        peak_mib(broken, 1, 1)


@pytest.fixture
def weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weigh in this process: the very function, without the seconds that another process takes to start."""
    monkeypatch.setattr(command, "peak_mib", weigh)


@pytest.mark.usefixtures("weighed")
def test_the_command_writes_the_costs_and_the_tables_that_use_them(tiny_study, capsys, commit):
    folder = tiny_study()
    (folder / FILE).write_text("broken")  # is replaced
    measure_costs(**config(f"study.folder={folder}", "device=cpu", "rounds=2", "repeats=1", "size=48", "batch_size=3"))
    costs = read_costs(folder)
    assert costs is not None
    assert [row.rows for row in costs.rows] == [["baseline", "again"], ["seb_ecre"]]
    assert costs.rows[0].input == [1, 3, 48, 48]
    assert costs.rows[0].batch == [3, 3, 32, 32]
    assert {row.layout for row in costs.rows} == {"channels_last"}
    assert costs.conditions.threads == torch.get_num_threads()
    assert (costs.conditions.rounds, costs.conditions.repeats, costs.conditions.device) == (2, 1, "cpu")
    assert costs.conditions.commit == commit
    study = load_study(folder)
    assert [dict(row.costs) for row in study.rows] == [costs.rows[place].values for place in (0, 1, 0)]
    check_study(folder)
    text = (folder / "table.md").read_text().replace(TIMES, "x")
    assert "of one input 1x3x48x48 in float32" in text
    assert "precision 32-true in channels_last, without loading" in text
    shown = capsys.readouterr().out
    assert str(folder / FILE) in shown.replace("\n", "")
    assert "seb_ecre" in shown


@pytest.mark.usefixtures("weighed")
@pytest.mark.parametrize(("load", "warned"), [(99.0, True), (0.0, False)])
def test_a_busy_machine_is_warned_of(tiny_study, capsys, monkeypatch, load, warned):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    folder = tiny_study()
    measure_costs(**config(f"study.folder={folder}", "device=cpu", "rounds=1", "repeats=1"))
    assert ("This machine is busy" in capsys.readouterr().out) is warned
    assert ("not to be trusted" in (folder / "table.md").read_text()) is warned
    assert json.loads((folder / FILE).read_text())["conditions"]["load"] == load


def test_a_record_of_the_old_schema_is_refused_with_the_commit_that_can_measure_it(tiny_study):
    def old(content):
        content["schema"] = 2
        content["config"]["recipe"] = content["config"]["recipe"] | {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1}}

    folder = tiny_study(old)
    with pytest.raises(UserError, match=r"row baseline cannot be built from its record by this version .*by commit \w{7}"):
        measure_costs(**config(f"study.folder={folder}", "device=cpu"))
    assert not (folder / FILE).exists()


def test_a_study_without_a_finished_run_is_refused(tiny_study):
    folder = tiny_study()
    for path in (folder / "records").glob("*/record.json"):
        path.unlink()
    with pytest.raises(UserError, match="has no row that can be measured: baseline: no finished run"):
        measure_costs(**config(f"study.folder={folder}", "device=cpu"))
    assert not (folder / FILE).exists()


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("rounds=0", "rounds=0"),
        ("repeats=0.5", "repeats"),
        ("size=0", "size"),
        ("batch_size=-1", "batch_size"),
        ("runtime.threads=0", r"runtime\.threads"),
    ],
)
def test_values_that_cannot_be_used_are_refused(override, name):
    with pytest.raises(ConfigError, match=name):
        config("study.folder=nowhere", override)
    with pytest.raises(ConfigError, match=r"study\.folder is not set"):
        config()


@pytest.mark.usefixtures("weighed")
def test_old_costs_are_replaced_as_a_whole(tiny_study):
    folder = tiny_study()
    measure_costs(**config(f"study.folder={folder}", "device=cpu", "rounds=1", "repeats=1"))
    first = read_costs(folder)
    assert first is not None
    measure_costs(**config(f"study.folder={folder}", "device=cpu", "rounds=2", "repeats=1"))
    second = read_costs(folder)
    assert second is not None
    assert second.conditions.rounds == 2
    assert [row.identity for row in second.rows] == [row.identity for row in first.rows]


def test_the_command_explains_itself():
    text = output_of("src.report", "costs", "--help", status=0)
    assert "exfuse report costs" in text
    assert "rows taking turns" in text
