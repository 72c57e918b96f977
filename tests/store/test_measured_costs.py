"""``costs.json``: what reads it, what it stands for in tables, and what is refused."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from exfuse.analysis.document import EN_DASH, TIMES
from exfuse.analysis.formats import csv, markdown
from exfuse.analysis.table import build_table
from exfuse.errors import UserError
from exfuse.reports.page.cost import section
from exfuse.reports.wandb_study import view_study
from exfuse.store.checked import write_sealed_json
from exfuse.store.costs import MEASURED, Quartiles, RowCosts
from exfuse.store.measured_costs import (
    FILE,
    Conditions,
    MeasuredCosts,
    cost_identity,
    read_costs,
    write_costs,
)
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder

CONDITIONS = Conditions("cpu", "one CPU", 8, 2, "2.14.1", None, "d" * 40, False, 0.2, 11, 3, "process (resident set)")
LAST_THREE = re.compile(r"\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$")


def make_study(folder: Path, **content: Any) -> Path:
    builder = StudyBuilder(folder, **content)
    builder.row("baseline", 0.6)
    builder.row("seb", 0.7, options={"seb": "product"}, on="baseline")
    builder.row("dap", 0.7, options={"dap": "wide"}, on="baseline")
    return builder.finish()


def measured(folder: Path, *names: str, **changed: Any) -> MeasuredCosts:
    """Costs 100 ms, 200 ms, ... of the rows."""
    rows = [row for row in load_study(folder).rows if row.name in names]
    found = []
    for place, row in enumerate(rows, 1):
        found.append(
            RowCosts(
                rows=[row.name],
                identity=cost_identity(next(iter(row.records.values()))),
                input=[1, 3, 128, 128],
                batch=[8, 3, 128, 128],
                precision="32-true",
                latency_ms=Quartiles(100.0 * place, 99.0 * place, 104.0 * place),
                train_images_per_second=Quartiles(70.0 + place, 70.0, 75.0),
                peak_memory_mib=5000.0 + place,
            )
        )
    return MeasuredCosts(replace(CONDITIONS, **changed), found)


def markdown_of(folder: Path) -> str:
    return markdown.render([build_table(load_study(folder))])


def times_of(text: str, row: str) -> tuple[str, ...]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    found = LAST_THREE.search(line)
    assert found
    return tuple(cell.strip() for cell in found.groups())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make_study(tmp_path / "study")


def test_what_is_written_is_read(study):
    costs = measured(study, "baseline", "seb")
    write_costs(study, costs)
    assert read_costs(study) == costs


def test_without_the_file_there_is_nothing_to_read_and_the_records_costs_stand(study):
    assert read_costs(study) is None
    text = markdown_of(study)
    assert times_of(text, "baseline") == ("11.9", "31.0", "810")
    assert "latency of the same input. Memory: peak of the process (resident set). Costs are means over seeds" in text
    assert FILE not in text


def test_the_table_shows_the_measured_costs_and_says_how(study):
    write_costs(study, measured(study, "baseline", "seb", "dap"))
    text = markdown_of(study)
    assert [times_of(text, row) for row in ("baseline", "seb", "dap")] == [
        ("71.0", "100.0", "5001"),
        ("72.0", "200.0", "5002"),
        ("73.0", "300.0", "5003"),
    ]
    assert (
        "Latency, throughput: all rows measured in one process on one CPU, 2 threads (costs.json), torch 2.14.1, commit "
        "ddddddd: medians of 11 rounds in which the rows take turns, quartiles within 6 % of them. Latency: of one input "
        "1x3x128x128 in float32. Throughput: of training steps with random images 8x3x128x128, precision 32-true, without "
        "loading. Memory: of such steps, peak of the process (resident set), each row in a process of its own."
    ) in text.replace(TIMES, "x")
    assert "GMACs: 10⁹ multiply-adds of one input 1x3x128x128" in text.replace(TIMES, "x")
    assert "latency of the same input" not in text
    assert "not to be trusted" not in text
    assert "Not in costs.json" not in text


def test_the_rest_of_the_table_is_as_without_the_file(study):
    before = build_table(load_study(study))
    write_costs(study, measured(study, "baseline", "seb", "dap"))
    after = build_table(load_study(study))
    assert before.columns == after.columns
    for one, other in zip(before.rows, after.rows, strict=True):
        assert {key for key in one if one[key] != other[key]} == set(MEASURED)
    assert csv.render(before).splitlines()[0] == csv.render(after).splitlines()[0]


def test_a_row_that_was_not_measured_has_no_times_and_a_footnote_names_it(study):
    write_costs(study, measured(study, "baseline", "dap"))
    text = markdown_of(study)
    assert times_of(text, "seb") == (f"*{EN_DASH}*",) * 3
    assert times_of(text, "dap")[1] == "200.0"
    assert "Not in costs.json as it is now, so without latency, throughput and memory: seb." in text


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["config"]["technique"]["seb"].update(_target_="other"),
        lambda content: content["config"]["recipe"].update(batch_size=4),
        lambda content: content["config"]["backbone"].update(output_stride=16),
        lambda content: content["config"]["trainer"].update(precision="bf16-mixed"),
        lambda content: content["config"]["runtime"].update(compile=True),
        lambda content: content.update(parameters=1),
    ],
)
def test_costs_of_another_model_or_recipe_are_not_used(tmp_path: Path, study: Path, change: Callable[[Any], object]):
    costs = measured(study, "baseline", "seb", "dap")
    builder = StudyBuilder(tmp_path / "changed", varies=["recipe.batch_size"], mixed=True)
    builder.row("baseline", 0.6)
    builder.row("seb", 0.7, options={"seb": "product"}, on="baseline", change=change)
    folder = builder.finish()
    write_costs(folder, costs)
    rows = {row.name: row for row in load_study(folder).rows}
    assert rows["baseline"].cost("latency_ms") == 100.0
    assert all(rows["seb"].cost(key) is None for key in MEASURED)
    assert rows["seb"].cost("gigamacs") == pytest.approx(1.3)


def test_seeds_and_weights_are_no_other_model(tmp_path):
    study = make_study(tmp_path / "study")
    row = load_study(study).rows[0]
    assert len({cost_identity(record) for record in row.records.values()}) == 1
    record = next(iter(row.records.values()))
    config = copy.deepcopy(record.config)
    config["backbone"]["init"] = "random"
    config["recipe"]["val_every"] = 1
    config["runtime"]["workers"] = 7
    assert cost_identity(replace(record, config=config)) == cost_identity(record)


def test_another_loss_or_way_to_calculate_is_another_cost(tmp_path):
    record = next(iter(load_study(make_study(tmp_path / "study")).rows[0].records.values()))
    others = [
        replace(record, choices=record.choices | {"loss": name}, config=record.config | {"loss": {"option": name}})
        for name in ("lovasz", "dice")
    ]
    for group, name, value in (
        ("runtime", "composed", False),
        ("trainer", "deterministic", True),
        ("trainer", "more", {"benchmark": True}),
    ):
        config = copy.deepcopy(record.config)
        config[group][name] = value
        others.append(replace(record, config=config))
    assert len({cost_identity(one) for one in (record, *others)}) == 6


def test_a_row_whose_runs_differ_has_no_costs(tmp_path):
    def other_batch(content: dict[str, Any]) -> None:
        if content["seed"] == 1:
            content["config"]["recipe"]["batch_size"] = 4

    builder = StudyBuilder(tmp_path / "study", mixed=True)
    builder.row("baseline", 0.6, change=other_batch)
    folder = builder.finish()
    write_costs(folder, measured(folder, "baseline"))
    assert load_study(folder).rows[0].cost("latency_ms") is None


def test_a_busy_machine_is_said_to_have_been_one(study):
    write_costs(study, measured(study, "baseline", load=7.3))
    assert (
        "The machine was busy with other work when measuring began (load average 7.3, 8 cores): these times are not to be "
        "trusted."
    ) in markdown_of(study)


@pytest.mark.parametrize(
    ("load", "threads", "busy"), [(None, 8, False), (0.3, 8, False), (0.6, 8, True), (6.4, 2, False), (6.6, 2, True)]
)
def test_a_machine_is_busy_with_more_load_than_cores_left_over(load, threads, busy):
    assert replace(CONDITIONS, load=load, threads=threads).busy is busy


def damage(place: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def edit(content: dict[str, Any]) -> None:
        *path, last = place.split(".")
        node: Any = content
        for part in path:
            node = node[int(part) if part.isdigit() else part]
        if value is None:
            del node[last]
        else:
            node[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (damage("schema", 2), "has schema 2, this version reads 1"),
        (damage("schema", None), "has schema None, this version reads 1"),
        (damage("rows", 3), "not a whole file of measured costs"),
        (damage("conditions.threads", "many"), "conditions.threads: Expected int, got str"),
        (damage("conditions.device", None), "device"),
        (damage("rows.0.identity", None), "identity"),
        (damage("rows.0.latency_ms.median", "fast"), "rows[0].latency_ms.median: Expected float, got str"),
        (damage("rows.0.latency_ms.median", 1e9), "no quartiles of a cost"),
        (damage("rows.0.peak_memory_mib", -1.0), "no peak of memory"),
        (damage("rows.0.colour", "red"), "colour"),
    ],
)
def test_a_broken_file_is_one_clear_line(study, edit, said):
    path = write_costs(study, measured(study, "baseline"))
    content = json.loads(path.read_text())
    edit(content)
    write_sealed_json(path, content)
    with pytest.raises(UserError) as caught:
        load_study(study)
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert "exfuse report costs" in message
    assert "\n" not in message
    assert load_study(study, measured=False).measured is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_file_that_is_no_json_object_is_refused_too(study, text):
    (study / FILE).write_text(text)
    with pytest.raises(UserError, match=r"costs\.json is not a whole file of measured costs"):
        load_study(study)


def test_page_and_wandb_take_the_same_numbers(study):
    from exfuse.analysis.rendering import Rendering
    from exfuse.reports.page.data import PageData

    assert view_study(study).hidden.isdisjoint(MEASURED)
    write_costs(study, measured(study, "baseline", "dap"))
    view = view_study(study)
    assert view.hidden >= {*MEASURED}
    assert "measured in one process" in view.table
    shown = section(PageData(Rendering(load_study(study)), None, {}, bound=1_000_000))
    assert shown is not None
    chart = shown.charts["cost-latency_ms"]
    text = json.dumps(chart["data"])
    assert "100" in text
    assert "200" in text
    assert "seb" not in text  # whose own number is not comparable
    assert "without seb, whose cost is not known" in json.dumps(chart["layout"])
    assert "seb" in json.dumps(shown.charts["cost-gigamacs"])
