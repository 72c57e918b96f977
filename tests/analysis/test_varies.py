"""A setting that a study varies on purpose is a column of its table, not a deviation."""

import pytest

from exfuse.analysis.table import build_table
from exfuse.errors import UserError
from exfuse.store.consistency import differences
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder

SETTING = "backbone.output_stride"


def strided(tmp_path, **content):
    builder = StudyBuilder(tmp_path / "study", **content)
    for stride in (32, 8):
        change = lambda record, stride=stride: record["config"]["backbone"].update(output_stride=stride)  # noqa: E731
        builder.row(f"os{stride}", 0.7, on=None if stride == 32 else "os32", change=change)
    builder.row("unfinished", 0.7, status=dict.fromkeys((0, 1, 2), "missing"))
    return builder.finish()


def test_it_is_refused_without_being_named(tmp_path):
    with pytest.raises(UserError, match=r"backbone\.output_stride: 32 in 3 of 6 runs, 8 \(os8 seeds 0, 1, 2\)"):
        load_study(strided(tmp_path))


def test_it_is_a_column_and_no_mark_where_it_is_named(tmp_path):
    study = load_study(strided(tmp_path, varies=[SETTING]))
    assert study.deviations == ()
    table = build_table(study)
    (column,) = [column for column in table.columns if column.key == SETTING]
    assert column.header == "output stride"
    assert [row[SETTING].text for row in table.rows] == ["32", "8", "–"]  # noqa: RUF001 - the table's own dash
    assert not any(cell.marks for row in table.rows[:2] for cell in row.values())


def test_other_settings_must_still_be_shared(tmp_path):
    with pytest.raises(UserError, match=r"backbone\.output_stride"):
        load_study(strided(tmp_path, varies=["recipe.epochs"]))


def test_what_a_machine_decided_is_no_setting_of_a_row(tmp_path):
    """Rows that are overrides differ in what these say; in threads or number formats only if an override says so."""

    def change(record, lr, threads, precision):
        record["config"]["recipe"]["lr"] = lr
        record["config"]["trainer"]["precision"] = precision
        record["environment"]["threads"] = threads

    builder = StudyBuilder(tmp_path / "study", mixed=True)
    for name, *own in (("slow", 0.1, 1, "32-true"), ("fast", 0.5, 8, "bf16-mixed")):
        builder.row(name, 0.7, on=None, change=lambda record, own=own: change(record, *own))
    rows = {row.name: row.records[0] for row in load_study(builder.finish()).rows}
    assert differences(rows, ["recipe.lr"]) == {"slow": {"recipe.lr": 0.1}, "fast": {"recipe.lr": 0.5}}
    assert {*differences(rows, ["recipe.lr", "trainer.precision"])["fast"]} == {"recipe.lr", "trainer.precision"}
    assert {*differences(rows, ["recipe.lr", "runtime.threads"])["fast"]} == {"recipe.lr", "threads"}
