"""What may be called a finding: by the adjusted p, in every format alike, in texts too."""

import re
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from rich.console import Console

from exfuse.analysis.comparisons import compare
from exfuse.analysis.document import Table
from exfuse.analysis.figures import ladder
from exfuse.analysis.formats import csv, html, latex, markdown, terminal
from exfuse.analysis.rendering import Rendering, check_study, render_study
from exfuse.analysis.table import build_table
from exfuse.analysis.texts import check_texts, write_texts
from exfuse.errors import UserError
from exfuse.store.grouping import GroupRule, grouping_of
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import IMAGES, StudyBuilder, edit_study

ROWS = {"clear": 0.8, "near": 0.66, "nearer": 0.63, "nearest": 0.64, "none": 0.62}
CLAIM = {"row": "clear", "lies": "above", "of": ["baseline", "near", "none"]}


def study_folder(folder: Path, **content: object) -> Path:
    builder = StudyBuilder(folder, **content)
    builder.row("baseline", 0.6)
    for name, quality in ROWS.items():
        builder.row(name, quality, options={"seb": "product"}, on="baseline")
    return builder.finish()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return study_folder(tmp_path / "study")


def values_of(table: Table) -> dict[str, dict[str, object]]:
    return {row["variant"].text: dict(row["difference"].values) for row in table.rows[1:]}


def test_an_interval_that_leaves_out_zero_is_no_finding_where_p_is_not_below_5_percent_for_all(folder):
    values = values_of(build_table(load_study(folder)))
    found = {name for name, one in values.items() if one["finding"] == "yes"}
    leave_out = {name for name, one in values.items() if not one["low"] <= 0 <= one["high"]}  # type: ignore[operator]
    assert found == {name for name, one in values.items() if one["p_holm"] < 0.05}  # type: ignore[operator]
    assert found < leave_out


def test_every_format_sets_findings_in_bold_and_nothing_else(folder):
    table = build_table(load_study(folder))
    texts = {name: row["difference"].text for row in table.rows[1:] for name in [row["variant"].text]}
    found = {texts[name] for name, one in values_of(table).items() if one["finding"] == "yes"}
    bold = {
        "md": re.findall(r"\*\*(.+?)\*\*", markdown.render([table])),
        "tex": re.findall(r"\\textbf\{(.+?)\}", latex.render([table])),
        "html": re.findall(r"<strong>(.+?)</strong>", html.render([table])),
    }
    assert all(len([text for text in texts if " vs " in text]) == len(found) > 0 for texts in bold.values())
    assert {text for text in bold["md"] if " vs " in text} == found
    console = Console(width=400, color_system="truecolor", force_terminal=True)
    with console.capture() as capture:
        console.print(terminal.render(table, 400))
    shown = {text.strip() for text in re.findall(r"\x1b\[1m([^\x1b]* vs [^\x1b]*)\x1b", capture.get())}
    assert shown == found
    assert sum(line.count(",yes,") for line in csv.render(table).splitlines()) == len(found)


def test_figures_fill_the_marks_of_findings_alone(folder):
    study = load_study(folder)
    compared = compare(study)
    axes = ladder.draw(study, compared.rows).axes[1]
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    filled = [to_hex(line.get_markerfacecolor()) == to_hex(line.get_color()) for line in marks]
    assert filled == [one.found for one in compared.rows.values()]
    assert {*filled} == {True, False}


def test_a_claim_is_tested_against_its_nearest_rival_beside_the_rows(tmp_path):
    folder = study_folder(tmp_path / "study", claims=[CLAIM, CLAIM | {"row": "near", "of": ["clear", "none"]}])
    compared = compare(load_study(folder))
    holds, fails = compared.claims
    assert (holds.base, fails.base) == ("near", "clear")
    assert holds.interval is not None
    assert fails.interval is not None
    rows = sorted([*(one.interval.p_value for one in compared.rows.values() if one.interval), holds.interval.p_value])
    assert len(rows) == 6
    assert holds.interval.low > 0
    assert holds.found
    assert (fails.interval.p_value, fails.found) == (1.0, False)
    table = markdown.render(Rendering(load_study(folder)).tables)
    assert "5 comparisons and 2 claims" in table
    verdicts = [line for line in table.splitlines() if "stablished" in line]
    assert [line.partition(":")[0] for line in verdicts] == ["- Established", "- Not established"]
    assert all("; nearest is " in line and ", p " in line for line in verdicts)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (CLAIM | {"row": "nobody"}, "'nobody', which is no row"),
        (CLAIM | {"of": ["near", "nobody"]}, "'nobody', which is no row"),
        (CLAIM | {"of": []}, "needs other rows"),
        (CLAIM | {"of": ["clear"]}, "needs other rows"),
        (CLAIM | {"lies": "beside"}, "beside"),
    ],
)
def test_a_claim_that_says_nothing_is_refused(tmp_path, claim, message):
    with pytest.raises(UserError, match=message):
        load_study(study_folder(tmp_path / "study", claims=[claim]))


TEXT = "# Mine\n\n<!-- scores of study -->\n<!-- end -->\n\nIn between.\n\n<!-- findings of study -->\nold\n<!-- end -->\n"


def test_texts_say_what_the_records_give(folder):
    text = folder.parent / "README.md"
    text.write_text(TEXT)
    assert write_texts([folder.parent]) == [text]
    written = text.read_text()
    assert "In between." in written
    assert "-->\nold" not in written
    compared = compare(load_study(folder)).rows
    for line in written.splitlines():
        for name, one in compared.items():
            if line.startswith("- **") and f"{name} vs baseline" in line:
                assert one.found
            if line.startswith("- Not told apart") and f"{name} vs baseline" in line:
                assert not one.found
    assert "- **clear vs baseline: +" in written
    assert write_texts([folder.parent]) == []
    assert check_texts([folder.parent]) == 1


def test_an_answer_says_what_was_gained_how_sure_that_is_and_what_the_paper_says(folder):
    edit_study(folder, lambda study: [row.update(paper=77.5 if row["on"] else 76.0, paper_trust="P") for row in study["rows"]])
    text = folder.parent / "README.md"
    text.write_text("<!-- answers of study -->\n<!-- end -->\n")
    write_texts([folder.parent])
    answers = dict(zip(ROWS, text.read_text().splitlines()[1:], strict=False))
    for name, one in compare(load_study(folder)).rows.items():
        assert answers[name].startswith("- **SEB gains**, +" if one.found else "- SEB: not decided, ")
        assert answers[name].endswith(f"({name} vs baseline). The paper: +1.5.")
    assert "0 images" not in text.read_text()
    assert "p is adjusted for 5 comparisons; decided: below 0.05." in text.read_text()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace("clear vs baseline: +", "clear vs baseline: +1"), "findings of study: this is not what"),
        (lambda text: text.replace("- **clear", "- clear"), "findings of study: this is not what"),
        (lambda text: text.replace("- **clear", "- More.\n- **clear"), r"they do not say: - More\."),
        (lambda text: text.replace("In between.", "It gains 3 points [+1.0, +5.0]."), "written by hand"),
        (lambda text: text.replace("In between.", "It loses (-3.4 [-4, -2])."), "written by hand"),
        (lambda text: text.replace("<!-- end -->", "", 1), "marks make no pairs"),
        (lambda text: text.replace("scores of study", "feelings of study"), "no block is called 'feelings'"),
        (lambda text: text.replace("scores of study", "scores of nowhere"), r"nowhere holds no study\.json"),
        (lambda text: text.replace("scores of study", "probes of study"), r"probe\.csv is missing"),
    ],
)
def test_a_text_that_parts_from_the_records_is_refused_by_name(folder, edit, message):
    text = folder.parent / "README.md"
    text.write_text(TEXT)
    write_texts([folder.parent])
    text.write_text(edit(text.read_text()))
    with pytest.raises(UserError, match=message):
        check_texts([folder.parent])


def test_files_that_are_no_text_or_no_table_are_named(folder):
    text, probe = folder.parent / "README.md", folder / "probe" / "probe.csv"
    text.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"README\.md is no UTF-8"):
        check_texts([folder.parent])
    text.write_text(TEXT.replace("scores of study", "probes of study"))
    probe.parent.mkdir()
    for content in ("a,b\n1,2\n", "seb,question,level,row,before,after\nproduct,q,1,a,1,many\n"):
        probe.write_text(content)
        with pytest.raises(UserError, match=r"probe\.csv is no table of probes"):
            write_texts([folder.parent])


# Images that are not independent.


def test_a_study_groups_the_images_of_old_records_by_their_names(folder):
    alone = values_of(build_table(load_study(folder)))
    edit_study(folder, lambda study: study.update(groups={"by": "image00([0-9])"}))
    study = load_study(folder)
    run = study.rows[0].runs[0]
    grouping = study.grouping(run)
    assert grouping is not None
    assert len(grouping.groups) == IMAGES
    assert len(set(grouping.groups)) == -(-IMAGES // 10)
    table = build_table(study)
    assert values_of(table) != alone
    assert "bootstrap resamples of val's 12 images by whole groups" in markdown.render([table])
    assert "there are 2 groups" in markdown.render([table])
    render_study(folder, Console(quiet=True))
    check_study(folder)


def test_one_ordered_sequence_is_drawn_in_blocks_and_speaks_of_itself(folder):
    edit_study(folder, lambda study: study.update(groups={"by": "(image)", "ordered": True}))
    text = markdown.render([build_table(load_study(folder))])
    assert re.search(r"in blocks of \d+( to \d+)? frames, by their autocorrelation", text)
    assert "frames of one sequence (image): intervals speak of it alone" in text


def test_one_group_without_order_has_no_interval_over_images(tmp_path):
    rule = {"by": "(image)", "ordered": False}
    text = markdown.render([build_table(load_study(study_folder(tmp_path / "seeds", groups=rule)))])
    assert "no resampling of images" in text
    assert "All images are one group (image), which says nothing of others: intervals are over seeds alone." in text
    builder = StudyBuilder(tmp_path / "one", groups=rule)
    builder.row("baseline", 0.6, (0,))
    builder.row("seb", 0.7, (0,), options={"seb": "product"}, on="baseline")
    table = build_table(load_study(builder.finish()))
    assert (table.rows[1]["difference"].text, table.rows[1]["difference"].state) == ("one group", True)


@pytest.mark.parametrize(
    ("by", "name", "group"),
    [
        ("first_part", "0016E5_07959", "0016E5"),
        ("first_part", "patient7-slice3", "patient7"),
        ("first_part", "scan.12", "scan"),
        ("([^_]+_[^_]+)_", "a_b_c", "a_b"),
        ("first_part", "alone", "alone"),
    ],
)
def test_the_group_of_a_name(by, name, group):
    assert grouping_of([name], GroupRule(by)).groups == (group,)


@pytest.mark.parametrize(("by", "message"), [("(", "expression"), ("abc", "does not fit"), ("(x)", "does not fit")])
def test_a_rule_that_cannot_be_used_is_refused(by, message):
    with pytest.raises(UserError, match=message):
        GroupRule(by).group("image1")
    if by == "abc":
        with pytest.raises(UserError, match="parenthesis"):
            GroupRule(by).group("abc1")


def test_published_frames_of_camvid_are_one_ordered_sequence():
    study = load_study(Path("experiments/seb_fusion_camvid"))
    grouping = study.grouping(study.rows[0].runs[0])
    assert grouping is not None
    assert (set(grouping.groups), grouping.ordered, len(grouping.groups)) == ({"0016E5"}, True, 101)
    animals = load_study(Path("experiments/seb_fusion_animals"))
    assert animals.grouping(animals.rows[0].runs[0]) is None
