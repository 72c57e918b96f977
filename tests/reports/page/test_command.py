"""The command as the shell runs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exfuse.store.folder import RunFolder
from tests.analysis.synthetic import StudyBuilder
from tests.command import Command
from tests.reports.examples import add_history
from tests.reports.page.conftest import make_study


@pytest.fixture
def command(command: Command, tmp_path: Path) -> Command:
    """Run ``exfuse report page ...``: exit status, standard output and error."""
    return lambda *arguments: command("report", "page", f"output={tmp_path / 'reports'}", *arguments)


def small_study(folder: Path) -> Path:
    builder = StudyBuilder(folder)
    builder.row("baseline", 0.6)
    return builder.finish()


def test_a_folder_of_studies_becomes_a_folder_of_pages(command, tmp_path):
    for name in ("one", "other"):
        small_study(tmp_path / "studies" / name)
    status, out, _ = command(f"study={tmp_path / 'studies'}", f"runs={tmp_path / 'no_runs'}")
    assert status == 0
    for name in ("one", "other"):
        path = tmp_path / "reports" / f"{name}.html"
        assert path.read_text().startswith("<!doctype html>")
        assert f"{path}: " in out


def test_a_broken_study_stops_no_other(command, tmp_path):
    small_study(tmp_path / "studies" / "one")
    (tmp_path / "studies" / "broken").mkdir()
    (tmp_path / "studies" / "broken" / "study.json").write_text("{")
    status, _, error = command(f"study={tmp_path / 'studies'}")
    assert status == 1
    assert "1 of 2 studies have no page: broken." in error
    assert (tmp_path / "reports" / "one.html").is_file()


def test_curves_come_from_the_runs_folder(command, tmp_path):
    folder = small_study(tmp_path / "study")
    shutil.copytree(folder / "records", tmp_path / "runs")
    for place, run in enumerate(sorted((tmp_path / "runs").iterdir())):
        add_history(RunFolder(run.parent, run.name), 0.5 + 0.1 * place, starts=2)
    status, out, _ = command(f"study={folder}", f"runs={tmp_path / 'runs'}")
    assert status == 0
    assert "training curves of 3 runs" in out
    assert len(list((folder / "records").glob("*/history.csv"))) == 3
    assert "training curves" not in command(f"study={folder}", f"runs={tmp_path / 'runs'}")[1]
    assert 'id="chart-curves"' in (tmp_path / "reports" / "study.html").read_text()


def test_the_same_study_gives_the_same_bytes(command, tmp_path):
    folder = make_study(tmp_path / "study")
    command(f"study={folder}")
    before = (tmp_path / "reports" / "study.html").read_bytes()
    command(f"study={folder}")
    assert (tmp_path / "reports" / "study.html").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["study=nowhere"], "nowhere holds no study.json"),
        (["study=nowhere", "examples=yes"], "examples=yes: expected auto, publish or none"),
        (["study=nowhere", "images=0"], "images=0"),
        (["study=nowhere", "images=many"], "images=many: expected a whole number of at least 1"),
        (["study=nowhere", "pictures=3"], "Top-level keys: "),
    ],
)
def test_a_mistake_is_one_clear_line(command, arguments, complaint):
    status, _, error = command(*arguments)
    assert status == 1
    assert complaint in error
    assert "Traceback" not in error


def test_a_page_of_nothing_is_a_mistake_in_usage(command):
    status, _, error = command()
    assert status == 2
    assert error.startswith("Error: study is not set: which STUDY? Usage: exfuse report page STUDY")


def test_torch_loads_only_to_predict(tmp_path):
    folder = make_study(tmp_path / "study")
    code = (
        "import sys; from exfuse.__main__ import do; "
        f"do(['report', 'page', 'study={folder}', 'output={tmp_path / 'reports'}']); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
