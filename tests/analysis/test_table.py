import itertools
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from exfuse.analysis.comparisons import compare_rows
from exfuse.analysis.document import Table
from exfuse.analysis.effects import factorial_effects
from exfuse.analysis.paper import VOC_CLASSES
from exfuse.analysis.table import build_effects_table, build_table
from exfuse.errors import UserError, rounded
from exfuse.files import sha256
from exfuse.store.record import read_record, write_record
from exfuse.store.study_reading import load_study
from tests.analysis.resampled import additive
from tests.analysis.synthetic import BASELINE, IMAGES, StudyBuilder, make_counts

PAPER = {"table": "Table 3", "images": {"train": 40, "val": IMAGES}, "backbone": "resnet18", "pretraining": "ImageNet"}
SEB = {"seb": "product"}


def table_of(builder: StudyBuilder) -> Table:
    return build_table(load_study(builder.finish()))


def texts(table: Table, key: str) -> list[str]:
    return [row[key].text for row in table.rows]


def notes(table: Table) -> str:
    return "\n".join(f"{note.mark} {note.text}" for note in table.footnotes)


def plain_miou(counts: np.ndarray) -> float:
    """In %, over the classes that occur, class by class."""
    total = counts.sum(0)
    ious = [total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in range(len(total)) if total[c].sum()]
    return 100 * float(np.mean(ious))


def two_rows(folder: Path, seeds: tuple[int, ...] = (0, 1, 2), quality: float = 0.7, **row: Any) -> StudyBuilder:
    builder = StudyBuilder(folder)
    builder.row("baseline", 0.6, seeds)
    builder.row("seb", quality, seeds, SEB, on="baseline", **row)
    return builder


def test_scores_and_differences_are_those_of_the_counts(tmp_path):
    table = table_of(two_rows(tmp_path))
    ours, base = ([plain_miou(make_counts(quality, seed)) for seed in range(3)] for quality in (0.7, 0.6))
    for row, values in zip(table.rows, (base, ours), strict=True):
        assert row["miou"].values["miou_mean"] == pytest.approx(statistics.mean(values))
        assert row["miou"].values["miou_sd"] == pytest.approx(statistics.stdev(values))
        assert [row["miou"].values[f"miou_seed_{seed}"] for seed in range(3)] == pytest.approx(values)
        assert row["miou"].text == f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
    cell = table.rows[1]["difference"]
    assert cell.values["difference"] == pytest.approx(statistics.mean(ours) - statistics.mean(base))
    assert cell.values["low"] < cell.values["difference"] < cell.values["high"]
    assert cell.values["on"] == "baseline"
    expected = [f"{cell.values[name]:+.1f}".replace("-", "\N{MINUS SIGN}") for name in ("difference", "low", "high")]
    assert cell.text == f"{expected[0]} [{expected[1]}, {expected[2]}] vs baseline"
    assert table.rows[0]["difference"].text == ""


def test_the_same_records_give_the_same_table(tmp_path):
    folder = two_rows(tmp_path).finish()
    assert build_table(load_study(folder)) == build_table(load_study(folder))


def test_one_seed_has_no_spread_and_says_what_its_interval_is(tmp_path):
    table = table_of(two_rows(tmp_path, seeds=(0,)))
    assert "±" not in table.rows[0]["miou"].text
    assert table.rows[0]["miou"].values["miou_sd"] is None
    assert table.rows[1]["difference"].marks == ("‖",)
    assert "‖ interval from one seed: over images only, it says nothing about the noise of training." in notes(table)
    assert "seb vs baseline (one seed)" in notes(table)
    assert "over images only" not in notes(table_of(two_rows(tmp_path / "three")))


def test_ticks_name_every_option_but_the_papers(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6)
    paper = {"ss": "second_conv_features", "lr": "rearranged", "ecre": "subpixel_supervised", "seb": "product", "dap": "wide"}
    builder.row("exfuse", 0.7, options=paper)
    other = {"ss": "heads_removed", "lr": "standard", "ecre": "subpixel", "seb": "gate", "dap": "last"}
    builder.row("others", 0.7, options=other)
    table = table_of(builder)
    techniques = ("ss", "lr", "ecre", "seb", "dap")
    assert [column.header for column in table.columns][:6] == ["variant", "SS", "LR", "ECRE", "SEB", "DAP"]
    assert [table.rows[0][name].text for name in techniques] == [""] * 5
    assert [table.rows[1][name].text for name in techniques] == ["✓"] * 5
    assert [table.rows[2][name].text for name in techniques] == ["✓ heads_removed", "", "✓ subpixel", "✓ gate", "✓ last"]
    assert [column.key for column in table.columns].count("difference") == 0  # no row builds on another


def test_labels_are_shown_without_the_papers_options(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6)
    options = {"ss": "second_conv_features", "dap": "last"}
    builder.row("ss-second_conv_features+dap-last", 0.7, options=options, on="baseline")
    builder.row("ss-second_conv_features+dap-last recipe.lr=0.1", 0.7, options=options, on="ss-second_conv_features+dap-last")
    builder.row("seb-product", 0.7, options=options)  # a name that is not its label
    table = table_of(builder)
    assert texts(table, "variant") == ["baseline", "ss+dap-last", "ss+dap-last recipe.lr=0.1", "seb-product"]
    assert table.rows[2]["difference"].text.endswith(" vs ss+dap-last")
    assert table.rows[1]["variant"].values == {"variant": "ss-second_conv_features+dap-last"}


def test_a_study_of_decoders_has_no_ticks_but_says_what_all_rows_share(tmp_path):
    builder = StudyBuilder(tmp_path)
    for levels in ("levels_5", "levels_45"):
        builder.row(levels, 0.6, decoder=levels, options=SEB)
    table = table_of(builder)
    assert [column.key for column in table.columns][:2] == ["variant", "decoder"]
    assert texts(table, "decoder") == ["levels_5", "levels_45"]
    assert "Every row: SEB product." in notes(table)


@pytest.mark.parametrize(
    ("status", "score", "seeds"),
    [
        ({}, None, "3"),
        ({1: "failed"}, None, "2 of 3: failed 1"),
        ({0: "missing", 2: "killed"}, None, "1 of 3: killed 1, missing 1"),
        ({0: "missing", 1: "missing", 2: "missing"}, "missing", "0 of 3: missing 3"),
        ({0: "failed", 1: "interrupted", 2: "failed"}, "failed 2, interrupted 1", "0 of 3: failed 2, interrupted 1"),
        ({0: "running", 1: "running", 2: "running"}, "running", "0 of 3: running 3"),
    ],
)
def test_runs_that_did_not_finish_are_named(tmp_path, status, score, seeds):
    row = table_of(two_rows(tmp_path, status=status)).rows[1]
    done = [seed for seed in range(3) if seed not in status]
    assert row["seeds"].text == seeds
    assert row["seeds"].values["seeds_done"] == len(done)
    if score is not None:
        assert (row["miou"].text, row["miou"].state) == (score, True)
        assert (row["difference"].text, row["difference"].state) == ("missing", True)
        assert row["gigamacs"].values == {"gigamacs": None, "gigamacs_difference": None}
        return
    assert row["miou"].marks == (("§",) if status else ())  # a mean over fewer seeds than planned
    ours, base = (statistics.mean(plain_miou(make_counts(quality, seed)) for seed in done) for quality in (0.7, 0.6))
    assert row["difference"].values["difference"] == pytest.approx(ours - base)  # over common seeds alone


def test_fewer_seeds_and_failures_are_explained(tmp_path):
    found = notes(table_of(two_rows(tmp_path, status={1: "failed"})))
    assert "§ mean over fewer seeds than planned." in found
    assert "seb seed 1 failed: RuntimeError: out of memory." in found
    assert "Rows rest on 2 to 3 seeds; a difference uses those that both rows have." in found


def test_a_records_own_reason_is_told(tmp_path):
    def reason(record: dict[str, Any]) -> None:
        record["reason"] = "killed by signal 9"

    table = table_of(two_rows(tmp_path, status=dict.fromkeys(range(3), "killed"), change=reason))
    assert "seb seed 0 killed: killed by signal 9; seb seed 1 killed: killed by signal 9" in notes(table)


def test_a_study_without_a_finished_run_is_a_table_all_the_same(tmp_path):
    missing = dict.fromkeys(range(3), "missing")
    builder = StudyBuilder(tmp_path, paper=PAPER)
    builder.row("baseline", 0.6, status=missing, paper=76.0)
    builder.row("seb", 0.7, status=missing, on="baseline", paper=77.0)
    table = table_of(builder)
    assert texts(table, "miou") == ["missing", "missing"]
    assert texts(table, "paper") == ["–", "–"]  # noqa: RUF001
    assert "No run has finished." in notes(table)


def as_in_the_paper(record: dict[str, Any]) -> None:
    record["config"]["backbone"]["init"] = "timm"


def paper_study(folder: Path, change: Any = as_in_the_paper, paper: Any = PAPER) -> Table:
    builder = StudyBuilder(folder, paper=paper)

    def rename(record: dict[str, Any]) -> None:
        """A score over VOC's classes, though most are absent here."""
        values = iter(record["scores"]["iou"].values())
        record["scores"]["iou"] = {name: next(values, None) for name in VOC_CLASSES}
        change(record)

    builder.row("baseline", 0.6, paper=58.0, change=rename)
    builder.row("seb", 0.7, options=SEB, on="baseline", change=rename)
    return table_of(builder)


def test_the_papers_numbers_stand_beside_scores_of_its_protocol(tmp_path):
    table = paper_study(tmp_path)
    ours = statistics.mean(plain_miou(make_counts(0.6, seed)) for seed in range(3))
    assert texts(table, "paper") == ["58 [P]", ""]
    assert table.rows[0]["difference_to_paper"].values["difference_to_paper"] == pytest.approx(ours - 58)
    assert table.rows[0]["difference_to_paper"].text == f"{ours - 58:+.1f}".replace("-", "\N{MINUS SIGN}")
    assert "[P] read from the paper's own table" in notes(table)


def departure(**changes: Any) -> Any:
    def change(record: dict[str, Any]) -> None:
        as_in_the_paper(record)
        record["images"] |= changes.get("images", {})
        record["config"]["backbone"] |= changes.get("backbone", {})
        record["config"]["debug"] |= changes.get("debug", {})
        record["manifests"] |= changes.get("manifests", {})
        if "classes" in changes:
            record["scores"]["iou"] = {f"{name}s": value for name, value in record["scores"]["iou"].items()}

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (departure(images={"train": 39}), "39/12 train/val images instead of 40/12"),
        (departure(images={"val": 11}), "40/11 train/val images instead of 40/12"),
        (departure(classes="others"), "21 classes that are not VOC's 21"),
        (departure(backbone={"name": "resnet50"}), "backbone resnet50 instead of resnet18"),
        (departure(backbone={"init": "random"}), "weights: random instead of ImageNet"),
        (
            departure(backbone={"init": "/there/weights.pth"}, manifests={"backbone": "f" * 64}),
            "weights: file instead of ImageNet",
        ),
        (departure(backbone={"init": "pretrained"}), "weights: object_crops instead of ImageNet"),
        (departure(debug={"images": 4}), "a debugging run"),
    ],
)
def test_no_number_of_the_papers_stands_beside_another_protocol(tmp_path, change, reason):
    table = paper_study(tmp_path, change)
    assert texts(table, "paper") == ["other data", ""]
    assert texts(table, "difference_to_paper") == ["other data", ""]
    assert table.rows[0]["paper"].values["paper"] is None
    assert reason in notes(table)


def test_without_numbers_of_the_paper_there_are_no_such_columns(tmp_path):
    assert "paper" not in [column.key for column in table_of(two_rows(tmp_path)).columns]


def test_costs_are_means_with_the_difference_to_the_row_built_on(tmp_path):
    table = table_of(two_rows(tmp_path))
    base, row = table.rows
    assert (base["parameters"].text, row["parameters"].text) == ("0.800", "0.820 (+0.020)")
    assert row["parameters"].values == {"parameters": 820_000, "parameters_difference": 20_000}
    assert row["gigamacs"].text == "1.30 (+0.10)"
    assert row["train_images_per_second"].values["train_images_per_second"] == pytest.approx((11.0 + 10.9 + 10.8) / 3)
    assert row["peak_memory_mib"].text == "810"
    assert "1\N{MULTIPLICATION SIGN}3\N{MULTIPLICATION SIGN}128\N{MULTIPLICATION SIGN}128" in notes(table)
    assert "peak of the process (resident set)" in notes(table)


@pytest.mark.parametrize(
    ("gigamacs", "text"), [(0.0415, "0.042"), (0.8316, "0.832"), (7.966, "7.97"), (78.12, "78.1"), (1234.5, "1234")]
)
def test_costs_have_three_significant_digits(tmp_path, gigamacs, text):
    table = table_of(two_rows(tmp_path, change=lambda record: record["costs"].update(gigamacs=gigamacs)))
    assert table.rows[1]["gigamacs"].text.partition(" (")[0] == text


@pytest.mark.parametrize("status", [{}, {1: "failed"}])
def test_costs_that_were_not_measured_are_left_out(tmp_path, status):
    def change(record: dict[str, Any]) -> None:
        if "costs" in record:
            record["costs"]["train_images_per_second"] = None

    row = table_of(two_rows(tmp_path, status=status, change=change)).rows[1]
    assert row["train_images_per_second"].values == {"train_images_per_second": None}
    assert row["latency_ms"].text == "32.0"


def test_p_values_are_adjusted_over_the_tables_comparisons(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6)
    for name, quality in (("a", 0.601), ("b", 0.62), ("c", 0.8)):
        builder.row(name, quality, options=SEB, on="baseline")
    builder.row("d", 0.7, options=SEB, on="baseline", status=dict.fromkeys(range(3), "missing"))
    table = table_of(builder)
    found = [row["difference"].values for row in table.rows[1:4]]
    ordered = sorted(range(3), key=lambda place: found[place]["p"])
    expected, largest = {}, 0.0
    for rank, place in enumerate(ordered):
        largest = max(largest, min(1.0, (3 - rank) * found[place]["p"]))
        expected[place] = largest
    assert [values["p_holm"] for values in found] == pytest.approx([expected[place] for place in range(3)])
    assert "Holm's method over the table's 3 comparisons" in notes(table)  # a missing one is none
    for row in table.rows[1:4]:
        clear = row["difference"].values["p_holm"] < 0.05
        assert (row["difference"].strong, row["p"].strong) == (clear, clear)
        assert row["difference"].values["finding"] == ("yes" if clear else "no")
    named = [row["variant"].text for row in table.rows[1:4] if row["difference"].strong]
    assert f"{len(named)} of 3 differences is a finding: {named[0]} vs baseline." in notes(table)


def test_a_table_that_establishes_nothing_says_so(tmp_path):
    table = table_of(two_rows(tmp_path, quality=0.6))
    assert "No difference is a finding" in notes(table)


def test_random_backbones_and_weights_that_know_nothing_of_ss_are_marked(tmp_path):
    def start(init: str) -> Any:
        return lambda record: record["config"]["backbone"].update(init=init)

    builder = StudyBuilder(tmp_path, mixed=True)
    builder.row("random", 0.6, change=start("random"))
    builder.row("public", 0.6, options={"ss": "second_conv_features"}, change=start("timm"))
    builder.row("pretrained", 0.6, options={"ss": "second_conv_features"})
    table = table_of(builder)
    assert ["‡" in row["miou"].marks for row in table.rows] == [True, False, False]
    assert [row["ss"].marks for row in table.rows] == [(), ("¶",), ()]
    assert "‡ backbone from random weights" in notes(table)
    assert "¶ SS is chosen, but" in notes(table)


def test_deviating_cells_of_a_mixed_study_are_marked_and_explained(tmp_path):
    builder = StudyBuilder(tmp_path, mixed=True)
    builder.row("baseline", 0.6)
    builder.row("seb", 0.7, (0, 1), SEB, on="baseline", change=lambda record: record["config"]["recipe"].update(epochs=16))
    builder.row("dap", 0.7, options={"dap": "wide"}, on="baseline")
    builder.row("both", 0.7, options=SEB | {"dap": "wide"}, on="seb")
    table = table_of(builder)
    assert ["†" in row["miou"].marks for row in table.rows] == [False, True, False, False]
    assert ["†" in row["difference"].marks for row in table.rows] == [False, True, False, True]  # against it, too
    assert "† not under the same settings" in notes(table)
    assert "recipe.epochs: 12 in 9 of 11 runs, 16 (seb seeds 0, 1)." in notes(table)
    assert "Recipe scenes: 12 or 16 epochs" in notes(table)


def test_runs_on_other_images_are_not_compared(tmp_path):
    builder = StudyBuilder(tmp_path, mixed=True)
    builder.row("baseline", 0.6)
    builder.row("seb", 0.7, options=SEB, on="baseline", change=lambda record: record["manifests"].update(val="e" * 64))
    assert texts(table_of(builder), "difference") == ["", "other images"]


def test_images_in_another_order_are_refused(tmp_path):
    builder = two_rows(tmp_path)
    folder = load_study(builder.finish()).row("seb").runs[2].folder
    counts, ids = folder.counts()
    np.savez_compressed(folder.path / "confusion.npz", counts=counts.astype(np.int32), ids=np.array(ids[::-1]))
    folder.write(replace(folder.record(), confusion_sha256=sha256(folder.path / "confusion.npz")))
    with pytest.raises(UserError, match=rf"{folder.key}/confusion\.npz counts other images, or in another order"):
        build_table(load_study(tmp_path))


def test_rows_that_predict_one_class_alone_are_called_so(tmp_path):
    def all_of_one_class(record):
        counts = np.array(record["scores"]["confusion"])
        alone = np.zeros_like(counts)
        alone[:, 0] = counts.sum(1)
        record["scores"]["confusion"] = alone.tolist()

    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6, change=all_of_one_class)
    builder.row("seb", 0.7, options={"seb": "product"}, on="baseline")
    text = notes(build_table(load_study(builder.finish())))
    assert "is all that a run of baseline predicts: these have learnt nothing yet" in text
    assert "run of seb" not in text


def test_of_runs_that_predict_another_class_each_every_class_is_named(tmp_path):
    def all_of_the_seeds_class(record):
        counts = np.array(record["scores"]["confusion"])
        alone = np.zeros_like(counts)
        alone[:, record["config"]["seed"] % 2] = counts.sum(1)
        record["scores"]["confusion"] = alone.tolist()

    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6, change=all_of_the_seeds_class)
    builder.row("seb", 0.7, options={"seb": "product"}, on="baseline")
    study = load_study(builder.finish())
    first, second = [*next(iter(study.rows[0].records.values())).scores.iou][:2]
    assert f"{first!r} or {second!r} is all that a run of baseline predicts" in notes(build_table(study))


def test_footnotes_say_what_was_measured_on_what(tmp_path):
    def other(record: dict[str, Any]) -> None:
        packages = {"torch": "2.15.0", "numpy": "2.4.6"}
        record["environment"] |= {"device": "another CPU", "packages": packages, "uncommitted_changes": True}
        record["seen_groups"] = ["p00", "p07"]

    found = notes(table_of(two_rows(tmp_path, change=other)))
    for part in (
        "Train has images of 2 groups of val, too: p00, p07.",
        "Data: generated scenes, 40 images to train on, 12 to score on; mIoU is over the 3 classes present in val "
        "(absent: absent_thing; VOC's devkit",
        "Recipe scenes: 12 epochs, batches of 8, crops of 128 px, AdamW, learning rate 0.003, precision 32-true; seeds 0, 1, 2",
        "Backbone: resnet18, output stride 32; weights: pretrained on objects of generated scenes, plain.",
        "Trained on one CPU and another CPU, threads: 1, 6 runs, 1 min in all, torch 2.14.1 or 2.15.0, commit ccccccc.",
        "3 runs of 6 ran with uncommitted changes.",
        "Runs used different devices: their costs in time are not comparable.",
        "Package versions differ: torch 2.14.1 or 2.15.0.",
        "95 % interval of the difference, each for itself, from 10,000 bootstrap resamples of val's 12 images",
        "runs are paired by seed and image",
    ):
        assert part in found
    assert "/somewhere" not in found  # nobody's disk


FACTORS = ["ecre", "seb", "dap"]
OPTIONS = {"ecre": "subpixel_supervised", "seb": "product", "dap": "wide"}


def factorial(folder: Path, **first: Any) -> StudyBuilder:
    builder = StudyBuilder(folder, factors=FACTORS)
    for size in range(4):
        for used in itertools.combinations(FACTORS, size):
            more = first if not used else {}
            options = {"ss": "second_conv_features"} | {name: OPTIONS[name] for name in used}  # SS throughout is no factor
            builder.row("_".join(used) or "none", 0.6 + 0.04 * size, options=options, **more)
    return builder


def test_effects_of_a_factorial_are_those_of_its_rows(tmp_path):
    study = load_study(factorial(tmp_path).finish())
    table = build_effects_table(study)
    cells = {
        frozenset(used): {seed: make_counts(0.6 + 0.04 * size, seed).astype(np.int64) for seed in range(3)}
        for size in range(4)
        for used in itertools.combinations(FACTORS, size)
    }
    expected = factorial_effects(additive(cells), FACTORS)
    assert [(row["kind"].text, row["of"].text) for row in table.rows] == [
        *(("main", name) for name in ("ECRE", "SEB", "DAP")),
        *(("interaction", f"{a} \N{MULTIPLICATION SIGN} {b}") for a, b in (("ECRE", "SEB"), ("ECRE", "DAP"), ("SEB", "DAP"))),
        *(("Shapley", name) for name in ("ECRE", "SEB", "DAP")),
        ("total", "ECRE + SEB + DAP"),
    ]
    intervals = [*expected.main.values(), *expected.interactions.values(), *expected.shapley.values(), expected.total]
    for row, interval in zip(table.rows, intervals, strict=True):
        assert row["effect"].values["effect"] == pytest.approx(100 * interval.estimate)
        assert row["effect"].values["low"] == pytest.approx(100 * interval.low)
        assert row["effect"].values["high"] == pytest.approx(100 * interval.high)


def test_effects_that_cannot_be_computed_say_why(tmp_path):
    missing = factorial(tmp_path / "missing", status=dict.fromkeys(range(3), "missing"))
    assert "no seed has finished in every combination" in notes(build_effects_table(load_study(missing.finish())))
    partial = factorial(tmp_path / "partial", status={0: "failed"})
    assert build_effects_table(load_study(partial.finish())).rows  # from seeds 1 and 2
    few = StudyBuilder(tmp_path / "few", factors=["seb"])
    few.row("baseline", 0.6)
    assert "1 of the 2 combinations of seb" in notes(build_effects_table(load_study(few.finish())))
    twice = StudyBuilder(tmp_path / "twice", factors=["seb"])
    for name, options in (("baseline", {}), ("seb", SEB), ("gate", {"seb": "gate"})):
        twice.row(name, 0.6, options=options)
    assert "rows seb and gate are the same combination of seb" in notes(build_effects_table(load_study(twice.finish())))


def test_a_study_without_factors_has_no_table_of_effects(tmp_path):
    assert build_effects_table(load_study(two_rows(tmp_path).finish())) is None


def test_baseline_is_not_compared_with_anything(tmp_path):
    study = load_study(two_rows(tmp_path).finish())
    assert list(compare_rows(study)) == ["seb"]
    assert study.row("baseline").options == BASELINE


@pytest.mark.parametrize(
    ("value", "told"), [(0.01234, "0.012"), (9.96, "10"), (99.4, "99"), (99.6, "100"), (103.0, "103"), (12345.6, "12,346")]
)
def test_large_numbers_are_told_without_exponents(value, told):
    assert rounded(value) == told


def test_a_score_that_the_counts_do_not_give_is_refused(tmp_path):
    folder = two_rows(tmp_path).finish()
    path = next(iter(sorted(folder.glob("records/*/record.json"))))
    record = read_record(path)
    write_record(path, replace(record, scored=replace(record.scores, miou=0.9)))  # sealed anew
    with pytest.raises(UserError, match=r"its record says 90\.00 % mIoU, and what was counted of its images gives \d+\.\d+ %"):
        build_table(load_study(folder))
