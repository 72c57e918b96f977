"""How trainings went, in every format of a study's table, and times that are withheld."""

import csv
import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from exfuse.analysis.formats import terminal
from exfuse.analysis.printed import printed
from exfuse.analysis.rendering import Rendering, render_study
from exfuse.analysis.table import build_table
from exfuse.store.record import OLD
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import CLASSES, StudyBuilder

GUESSING = math.log(len(CLASSES))


def health(highest: float | None, **correlations: float):
    return lambda record: record.update(
        health={
            "highest_loss": highest,
            "first_loss": GUESSING,
            "gradient_norms": {"decoder": 1.0},
            "correlations": correlations,
        }
    )


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builder = StudyBuilder(tmp_path_factory.mktemp("study"))
    builder.row("of_before", 0.6)
    builder.row("baseline", 0.6, change=health(0.5 * GUESSING))
    builder.row("at_guessing", 0.6, on="baseline", change=health(GUESSING))
    builder.row("seb", 0.6, options={"seb": "product"}, on="baseline", change=health(1.2 * GUESSING, res2=0.03, res3=0.9))
    builder.row("burst", 0.6, on="baseline", change=health(math.inf))
    builder.row("within_warm_up", 0.6, on="baseline", change=health(None))
    folder = builder.finish()
    render_study(folder, Console(quiet=True))
    return folder


def test_a_table_says_which_runs_diverged_and_what_seb_leaves(rendered):
    table = build_table(load_study(rendered))
    assert {row["variant"].text: row["health"].text for row in table.rows} == {
        "of_before": "–",  # noqa: RUF001
        "baseline": "0.50",
        "at_guessing": "1.00",
        "seb": "diverged 3 of 3, 1.20, r 0.03",
        "burst": "diverged 3 of 3, inf",
        "within_warm_up": "–",  # noqa: RUF001
    }
    marked = [row["variant"].text for row in table.rows if "◊" in row["miou"].marks]
    assert marked == ["seb", "burst"]
    told = [note.text for note in table.footnotes if "guessing" in note.text]
    assert [text.partition(":")[0] for text in told] == ["diverged", "Health, of a row's worst run"]
    assert "r: the lowest correlation" in told[1]
    study = load_study(rendered)
    rendering = Rendering(study)
    for column, explained in (("health", True), ("miou", False)):
        brief = printed(study, rendering.tables[0], rendering.compared, ["variant", column]).brief
        assert (told[1] in brief) is explained


@pytest.mark.parametrize("suffix", [".md", ".tex", ".html", ".csv", "terminal"])
def test_every_format_says_so(rendered, suffix):
    if suffix == "terminal":
        console = Console(width=400, record=True, file=io.StringIO())
        console.print(terminal.render(build_table(load_study(rendered)), 400))
        text = console.export_text()
    else:
        text = (rendered / f"table{suffix}").read_text()
    if suffix == ".tex":  # for print: the mark of both rows' scores, and what it stands for
        assert [line.count(r"^{\diamond}") for line in text.splitlines() if "textbf" in line or "&" in line].count(1) == 2
        assert "diverged: an epoch's mean loss" in text
        return
    if suffix != ".csv":
        assert text.count("diverged 3 of 3") == 2
        return
    rows = {row["variant"]: row for row in csv.DictReader(io.StringIO(text))}
    assert [rows[name]["diverged"] for name in ("of_before", "baseline", "seb", "burst")] == ["", "0", "3", "3"]
    assert rows["seb"]["seb_correlation"] == "0.03"


@pytest.mark.parametrize(("ratio", "withheld"), [(1.04, ()), (1.06, ("train_images_per_second",))], ids=["steady", "unsteady"])
def test_times_in_which_rows_of_one_architecture_differ_are_withheld(tmp_path, ratio, withheld):
    def costs(parameters: int, rate: float):
        values = {"parameters": parameters, "gigamacs": 1.0, "latency_ms": 10.0, "train_images_per_second": rate}
        return lambda record: record.update(costs={**values, "peak_memory_mib": 800.0 * rate})

    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6, change=costs(100, 30.0))
    builder.row("ss", 0.6, options={"ss": "heads_removed"}, on="baseline", change=costs(100, 30.0 * ratio))
    # other architectures, the second in what parameters and multiply-adds do not show
    builder.row("seb", 0.6, options={"seb": "product"}, on="baseline", change=costs(200, 3.0))
    builder.row("dap", 0.6, options={"dap": "wide_control"}, on="baseline", change=costs(100, 20.0))
    study = load_study(builder.finish())
    assert study.withheld == withheld
    table = build_table(study)
    shown = [row["train_images_per_second"].text for row in table.rows]
    assert shown == (["–"] * 4 if withheld else ["30.0", "31.2", "3.0", "20.0"])  # noqa: RUF001
    assert [row["latency_ms"].text for row in table.rows] == ["10.0"] * 4
    assert table.rows[0]["peak_memory_mib"].text == "24000"
    assert any("Withheld: img/s, in which" in note.text for note in table.footnotes) == bool(withheld)


def test_a_table_says_how_many_of_its_records_are_of_an_earlier_version(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6, seeds=(0, 1), change=lambda content: content.update(schema=OLD))
    builder.row("seb", 0.6, seeds=(0, 1), options={"seb": "product"}, on="baseline")
    notes = [note.text for note in build_table(load_study(builder.finish())).footnotes]
    assert sum("2 records of 4 by an earlier version" in note for note in notes) == 1
