"""Rows whose trainings stopped early, or minimised something else: said in the table, and refused beside rows that did not."""

import pytest

from exfuse.analysis.table import build_table
from exfuse.errors import UserError
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder

RULE = {"epochs": None, "steps": None, "patience": 5, "min_delta": 0.0, "share": 0.2, "seed": 0, "every": 2}
SUM = {"option": "sum", "weights": {"cross_entropy": 1.0, "dice": 0.5, "focal": 0.0}, "parts": {}}


def ruled(epochs=None, rule=RULE, loss=None):
    """A record under the rule, which stopped it at these epochs, by seed, or did not."""

    def change(record):
        record["config"]["stop"] = rule
        record["config"]["recipe"]["ema_decay"] = 0.99
        if loss:
            record["config"]["loss"] = loss
        if epochs and epochs[record["seed"]]:
            record["stopped"] = {"epochs": epochs[record["seed"]], "steps": 100, "of": record["config"]["recipe"]["epochs"]}

    return change


def test_a_row_says_where_its_trainings_stopped_and_a_note_by_which_rule(tmp_path):
    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6, change=ruled([16.0, 2.25, None], loss=SUM))
    builder.row("seb", 0.6, options={"seb": "product"}, on="baseline", change=ruled(loss=SUM))
    study = load_study(builder.finish())
    epochs = study.rows[0].records[0].config["recipe"]["epochs"]
    table = build_table(study)
    assert [row["epochs"].text for row in table.rows] == [f"stopped at 16, 2.25, {epochs} of {epochs}", f"{epochs}"]
    (recipe,) = [note.text for note in table.footnotes if note.text.startswith("Recipe")]
    assert "loss 1 cross entropy + 0.5 dice" in recipe
    assert "moving average of the weights, decay 0.99" in recipe
    assert recipe.endswith(
        "A training stops once 5 validations, one every 2 epochs, found no better mIoU on 20 % of train, which is held out for "
        "that, val being read at the end alone."
    )


def test_rows_under_different_rules_make_no_table(tmp_path):
    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6, change=ruled([16.0] * 3))
    builder.row("seb", 0.6, options={"seb": "product"}, on="baseline", change=ruled(rule={**RULE, "patience": 6}))
    with pytest.raises(UserError, match=r"stop\.patience: 5 in 3 of 6 runs, 6 \(seb seeds 0, 1, 2\)"):
        load_study(builder.finish())


def test_what_an_earlier_version_did_not_write_is_what_it_did(tmp_path):
    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6, change=lambda record: record["config"].pop("loss", None))
    plain = {"option": "cross_entropy", "smoothing": 0.0, "class_weights": None}
    none = dict.fromkeys(RULE) | {"min_delta": 0.0, "share": 0.2, "seed": 0}
    builder.row("seb", 0.6, options={"seb": "product"}, on="baseline", change=lambda record: record["config"].update(
        loss=plain, stop=none, held_out={"share": 0.0, "seed": 0}, recipe=record["config"]["recipe"] | {"ema_decay": None}
    ))  # fmt: skip
    study = load_study(builder.finish())
    assert study.deviations == ()
    assert "epochs" not in {column.key for column in build_table(study).columns}


def test_another_loss_makes_no_table_either(tmp_path):
    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6)
    builder.row("seb", 0.6, options={"seb": "product"}, on="baseline", change=lambda record: record["config"].update(loss=SUM))
    with pytest.raises(UserError, match=r"loss\.option: cross_entropy in 3 of 6 runs, sum"):
        load_study(builder.finish())
