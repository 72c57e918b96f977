import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from exfuse.analysis.rendering import render_study
from tests.analysis.synthetic import StudyBuilder, edit_study

FILES = {"study.json", "table.md", "table.tex", "table.csv", "table.html"} | {
    f"{name}.{suffix}" for name in ("ladder", "cost", "classes") for suffix in ("svg", "png")
}


def make_study(folder: Path) -> Path:
    builder = StudyBuilder(folder)
    builder.row("baseline", 0.6)
    builder.row("seb", 0.7, options={"seb": "product"}, on="baseline")
    return builder.finish()


@pytest.fixture(scope="module")
def once_rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_study(tmp_path_factory.mktemp("study"))
    render_study(folder, Console(quiet=True))
    return folder


@pytest.fixture
def rendered(once_rendered: Path, tmp_path: Path) -> Path:
    """A study folder of this test's own, with its tables and figures."""
    return shutil.copytree(once_rendered, tmp_path / "study")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_folder_of_studies_is_rendered_and_checked(tmp_path, command):
    one, other = make_study(tmp_path / "one"), make_study(tmp_path / "other")
    status, out, _ = command("study", "tabulate", tmp_path)
    assert status == 0
    assert set(contents(one)) == set(contents(other)) == FILES
    assert "vs baseline" in out
    assert f"{one}: table.md, table.tex, table.csv, table.html, ladder.{{svg,png}}" in out
    status, out, _ = command("study", "check", tmp_path)
    assert (status, out) == (
        0,
        f"{one}: its tables are what its records give.\n{other}: its tables are what its records give.\n",
    )


def test_a_chosen_table_lies_beside_the_study_s_own(rendered, command):
    before = contents(rendered)
    status, out, _ = command("study", "tabulate", rendered, "columns=variant,miou", "format=tex,word", "names={seb:SEB}")
    assert (status, out) == (0, f"{rendered}/chosen.tex\n{rendered}/chosen.doc.html\n")
    assert "2 & SEB & " in (rendered / "chosen.tex").read_text()
    assert "Δ" not in (rendered / "chosen.doc.html").read_text()
    after = contents(rendered)
    assert {name: after[name] for name in before} == before
    assert command("study", "tabulate", rendered, "format=numbers", "quiet=true") == (0, "", "")
    assert (rendered / "table.numbers.csv").is_file()
    assert command("study", "check", rendered, "quiet=true") == (0, "", "")
    status, _, error = command("study", "tabulate", rendered, "columns=variant,mIoU")
    assert status == 1
    assert "no column 'mIoU'. There are variant, " in error


def test_quiet_prints_nothing(rendered, command):
    assert command("study", "tabulate", rendered, "quiet=true") == (0, "", "")
    assert command("study", "check", rendered, "quiet=true") == (0, "", "")


@pytest.mark.parametrize("name", ["table.md", "table.tex", "table.csv", "table.html"])
def test_check_finds_a_number_that_the_records_do_not_give(rendered, command, name):
    path, right = rendered / name, "baseline" if name == "table.tex" else "810"  # MiB, of which LaTeX has none
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, "999", 1))
    before = contents(rendered)
    status, _, error = command("study", "check", rendered)
    assert status == 1
    assert f"{path} is not what its records give:" in error
    assert "999" in error
    assert f"Render it anew: exfuse study tabulate {rendered}" in error
    assert contents(rendered) == before  # nothing was written


@pytest.mark.parametrize("name", sorted(FILES - {"study.json"}))
def test_check_finds_a_file_that_is_missing(rendered, command, name):
    (rendered / name).unlink()
    status, _, error = command("study", "check", rendered)
    assert status == 1
    assert f"{rendered / name} is missing" in error
    assert not (rendered / name).exists()


def test_check_knows_a_run_that_was_planned_later(rendered, command):
    edit_study(rendered, lambda study: study["rows"][1]["runs"].update({"3": "f" * 16}))
    status, _, error = command("study", "check", rendered)
    assert status == 1
    assert "3 of 4: missing 1" in error


def test_an_altered_record_writes_nothing(tmp_path, command):
    folder = make_study(tmp_path)
    path = sorted((folder / "records").glob("*/record.json"))[0]
    record = json.loads(path.read_text())
    record["scores"]["miou"] = 0.99
    path.write_text(json.dumps(record))
    status, _, error = command("study", "tabulate", folder)
    assert status == 1
    assert str(path) in error
    assert set(contents(folder)) == {"study.json"}


def test_a_folder_without_studies_is_refused(tmp_path, command):
    status, _, error = command("study", "tabulate", tmp_path)
    assert status == 1
    assert "holds no study.json and no study folder" in error
