import csv as csv_reader
import io
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from rich.console import Console

from exfuse.analysis.document import Cell, Column, Footnote, Table
from exfuse.analysis.formats import csv, html, latex, markdown, terminal
from exfuse.analysis.printed import printed
from exfuse.analysis.rendering import Choice, Rendering, render_study
from exfuse.analysis.table import build_table
from exfuse.errors import UserError
from exfuse.files import as_cell
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder
from tests.pace import patience

GOLDEN = Path(__file__).parent / "golden"
SUFFIXES = (".md", ".tex", ".csv", ".html")
NASTY = (
    r"""a|b \c {d} $e$ f_g_h _i_ *j* `k` <l> &m; #n ~o ^p %q "r" 's' [t](u) -- ✓ ± é 中 \input{x} <script>alert(1)</script>"""
)


def golden_study(folder: Path) -> Path:
    """One of everything: ticks, another option, seeds that failed or are missing, other data, a deviating run, one seed."""
    paper = {
        "table": "Table 3",
        "images": {"train": 10582, "val": 1449},
        "backbone": "resnext101_32x4d",
        "pretraining": "ImageNet",
    }
    builder = StudyBuilder(folder, paper=paper, mixed=True, name="golden")
    builder.row("baseline", 0.60, paper=76.0)
    builder.row("ss", 0.64, options={"ss": "second_conv_features"}, on="baseline", paper=77.5, status={1: "failed"})
    options = {"ss": "second_conv_features", "lr": "rearranged"}
    builder.row("ss_lr", 0.70, (0,), options, on="ss", paper=78.3)
    options = options | {"dap": "last"}
    change = {"change": lambda record: record["config"]["recipe"].update(epochs=16)}
    builder.row("ss_lr_dap_last", 0.72, options=options, on="baseline", **change)
    missing = {0: "missing", 1: "missing", 2: "failed"}
    builder.row("exfuse", 0.8, options=options | {"seb": "product"}, on="ss_lr", paper=80.0, status=missing)
    return builder.finish()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = golden_study(tmp_path_factory.mktemp("study"))
    render_study(folder, Console(quiet=True))
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_are_those_that_were_looked_at(rendered, suffix):
    """UPDATE_GOLDEN=1 writes them anew; look at the difference before you commit it."""
    found, golden = (rendered / f"table{suffix}").read_text(), GOLDEN / f"table{suffix}"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.write_text(found)
    assert found == golden.read_text()


def test_every_format_shows_every_cell(rendered):
    table = build_table(load_study(rendered))
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(terminal.render(table, 400))
    shown = {suffix: (rendered / f"table{suffix}").read_text() for suffix in (".md", ".html")}
    for cell in (cell for row in table.cells() for cell in row if cell.text):
        assert markdown.escape(cell.text) in shown[".md"]
        assert cell.text.replace("<", "&lt;") in shown[".html"]
    drawn = console.export_text()
    for row in table.rows:
        assert all(cell.text in drawn for cell in row.values())


def table_with(text: str) -> Table:
    """A table with the same text wherever a text may stand."""
    columns = [Column("one", text, text, "left"), Column("two", text, text, "right"), Column("three", "3", "", "centre")]
    rows = [{"one": Cell(text, {"one": text}, ("†",)), "two": Cell(text, {"two": 1.5}, state=True)}] * 2
    return Table("some_name%", text, columns, rows, [Footnote(text, "†"), Footnote(text)], [text], text)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40) | st.sampled_from([NASTY, "[t]", "--", "a|b"])


@settings(max_examples=60)
@given(TEXTS)
def test_a_markdown_table_keeps_its_columns_whatever_the_text(text):
    lines = [line for line in markdown.render([table_with(text)]).splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {4}


def test_markdown_shows_text_as_it_is():
    assert markdown.escape("ss_lr_ecre [−0.1, +2.5]") == "ss_lr_ecre [−0.1, +2.5]"  # noqa: RUF001
    assert markdown.escape("_x_ *y* a|b <b> [t](u) [v]") == r"\_x\_ \*y\* a\|b \<b\> \[t](u) [v]"
    assert markdown.escape("two\nlines") == "two lines"


@settings(max_examples=60)
@given(TEXTS)
def test_csv_reads_back(text):
    names, *rows = csv_reader.reader(io.StringIO(csv.render(table_with(text)), newline=""))
    assert names == ["one", "two", "marks"]
    shown = as_cell(text)  # with a sign before what a spreadsheet would calculate
    assert rows == [[shown, "1.5", "†"]] * 2


def test_csv_keeps_small_and_large_numbers():
    rows = [{"a": Cell("", {"p": 1.23456789e-7, "parameters": 123456789.0, "none": None, "whole": 3})}]
    assert csv.render(Table("name", "title", [Column("a", "a", "")], rows)) == (
        "p,parameters,none,whole,marks\n1.23457e-07,123456789,,3,\n"
    )


class Reader(HTMLParser):
    """Tags that are open, and texts of the cells."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)
        if tag in ("td", "th") and "tbody" in self.open:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.in_cell():
            self.cells[-1] += data

    def in_cell(self) -> bool:
        """Within a cell of the table's body, of which the first of each row is a heading."""
        return "tbody" in self.open and self.open[-1] in ("td", "th", "i", "strong", "b")


@settings(max_examples=60)
@given(TEXTS)
def test_html_is_well_formed_and_shows_the_text_whatever_it_is(text):
    reader = Reader()
    reader.feed(html.render([table_with(text)]))
    reader.close()
    assert reader.open == []
    assert reader.cells == [text, text, ""] * 2


@settings(max_examples=20)
@given(TEXTS)
def test_html_for_word_shows_the_text_whatever_it_is(text):
    page = html.render_for_word([table_with(text)])
    reader = Reader()
    reader.feed(page.replace('<meta charset="utf-8">', ""))
    reader.close()
    assert reader.open == []
    assert reader.cells == [text.replace(" ", "\u00a0"), text.replace(" ", "\u00a0"), ""] * 2  # no line breaks in a cell
    assert not re.search(r"var\(|@media|<script|class=", page)


def test_latex_knows_which_quote_opens():
    assert latex.escape('"a b" and \'c\', it\'s ("d")') == "``a b'' and `c', it's (``d'')"


def test_print_names_rows_by_what_they_add_and_marks_findings(rendered):
    study = load_study(rendered)
    rendering = Rendering(study)
    table = printed(study, rendering.tables[0], rendering.compared)
    names = [(row["number"].text, row["variant"].text) for row in table.rows]
    assert names == [
        ("1", "baseline"),
        ("2", "(1) + SS"),
        ("3", "(2) + LR"),
        ("4", "(1) + SS + LR + DAP"),
        ("5", "(3) + SEB + DAP"),
    ]
    assert [column.key for column in table.columns] == ["number", "variant", "miou", "seeds", "difference"]
    for row in study.rows[1:4]:
        one, cell = rendering.compared.rows[row.name], table.rows[study.rows.index(row)]["difference"]
        assert ("*" in cell.marks) is one.found
        assert "vs" not in cell.text
    assert any("DAP: last" in note for note in table.brief)
    assert sum(map(len, table.brief)) < 400
    called = printed(
        study, rendering.tables[0], rendering.compared, ["variant", "miou"], {"exfuse": "all of it", "miou": "score"}
    )
    assert called.rows[4]["variant"].text == "all of it"
    assert called.columns[-1].header == "score"
    assert "Brackets" in " ".join(table.brief)
    assert all("Brackets" not in note and "p < " not in note for note in called.brief)  # of a column that is not there
    by_p = printed(study, rendering.tables[0], rendering.compared, ["variant", "p"])
    assert by_p.brief[0].startswith("p: two-sided, adjusted for 3 comparisons; bold")
    for wrong in ({"chosen": ["vriant"]}, {"names": {"nobody": "x"}}):
        with pytest.raises(UserError, match=r"vriant|nobody"):
            printed(study, rendering.tables[0], rendering.compared, **wrong)


def test_print_says_once_what_all_rows_are_compared_with(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("one", 0.6)
    for name in ("other_way", "third"):
        builder.row(name, 0.7, on="one")
    rendering = Rendering(load_study(builder.finish()))
    table = printed(rendering.study, rendering.tables[0], rendering.compared)
    assert [row["variant"].text for row in table.rows] == ["one", "other way", "third"]
    assert "difference to row 1," in " ".join(table.brief)


def test_every_number_of_every_run_is_in_one_file(rendered):
    study = load_study(rendered)
    lines = list(csv_reader.DictReader(io.StringIO(Rendering(study).text("numbers.csv"))))
    found = {(line["row"], line["seed"], line["of"], line["class"]): line["value"] for line in lines}
    assert len(found) == len(lines)
    for row, seed, record in study.done():
        assert float(found[row.name, str(seed), "miou", ""]) == record.scores.miou
        for name, value in record.scores.iou.items():
            assert found[row.name, str(seed), "iou", name] == ("" if value is None else repr(value))
    assert float(found["ss", "", "difference to baseline: low", ""]) < float(
        found["ss", "", "difference to baseline: high", ""]
    )


def test_html_needs_no_network_and_knows_dark_rooms(rendered):
    page = (rendered / "table.html").read_text()
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", page)
    assert "prefers-color-scheme: dark" in page


ARTICLE = r"\documentclass{article}"
CVPR = r"""\documentclass[10pt,twocolumn,letterpaper]{article}\usepackage{times}
\setlength{\textwidth}{6.875in}\setlength{\columnsep}{0.3125in}\setlength{\oddsidemargin}{-0.1875in}"""
PAPERS = {"IEEEtran": r"\documentclass[conference]{IEEEtran}", "article": r"\documentclass[twocolumn]{article}", "CVPR": CVPR}


def compiles(folder: Path, body: str, preamble: str = ARTICLE) -> str:
    """The text of a document with ``body`` as pdflatex's log has it; skips where LaTeX is not installed."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    packages = "".join(f"\\usepackage{{{package}}}" for package in latex.PACKAGES)
    document = folder / "document.tex"
    document.write_text(f"{preamble}{packages}\\begin{{document}}{body}\\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", document.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=patience(120))
    if "IEEEtran.cls' not found" in done.stdout:
        pytest.skip("IEEEtran is not installed: texlive-publishers")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_tables_fit_the_columns_and_pages_of_papers(rendered, tmp_path, paper):
    rendering = Rendering(load_study(rendered))
    every = [column.key for column in rendering.tables[0].columns]
    choices = [
        Choice(("miou", "difference")),
        Choice(("variant", "ss", "lr", "seb", "miou", "difference", "p")),
        Choice(every),
        Choice(every, width="column"),
    ]
    long = Table(
        "e", NASTY, [Column("a", "a", "")], [{"a": Cell("a_long_" * 30, marks=("†",))}], [Footnote("/path/of_a" * 30, "†")]
    )
    texts = [*(rendering.text("tex", choice) for choice in choices), latex.render([long])]
    assert [text.count("{table*}") for text in texts] == [0, 2, 2, 0, 2]
    log = compiles(tmp_path, "words " * 900 + "".join(texts), PAPERS[paper])
    assert "Overfull" not in log
    assert "Missing character" not in log


def test_latex_compiles_whatever_the_text(tmp_path):
    texts = [
        NASTY,
        *(chr(code) for code in range(32, 127)),
        "[first]",
        "",
        "ÀÉÎÕÜçž",
        "\N{MINUS SIGN}1",
        "Δ ⁹ † ‡ § ¶ ‖",
        "\t\0",
    ]
    assert compiles(tmp_path, "\\clearpage".join(latex.render([table_with(text)]) for text in texts[:1]))
    columns = [Column("one", "text", "")]
    rows = [{"one": Cell(text)} for text in texts]
    assert compiles(tmp_path, latex.render([Table("name", "title", columns, rows)]))


@settings(max_examples=60)
@given(TEXTS)
def test_latex_has_no_bare_special_character(text):
    escaped = latex.escape(text)
    assert escaped.isascii()
    bare = re.sub(
        r"\\textbackslash\{\}|\\[{}$&#%_]|\$(\\[A-Za-z]+|\\\||-|\^\{9\})\$|\\[a-zA-Z]+\{\w?\}|\\[`'^~\"]\{\w\}|\{\[\}|-\{\}",
        "",
        escaped,
    )
    assert not re.search(r"[\\{}$&#%_^~]", bare)


def test_a_terminal_sees_whole_cells_at_any_width(rendered):
    table = build_table(load_study(rendered))
    for width in (80, 120, 300):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(terminal.render(table, width))
        text = console.export_text()
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
        assert "failed 1, missing 2" in text


def test_a_terminal_takes_no_text_for_markup():
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal.render(table_with("[red]x[/red]"), 200))
    assert console.export_text().count("[red]x[/red]") == 9  # title, two headers, four cells, two footnotes
