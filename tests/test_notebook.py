"""Notebooks run from start to end on what is published, read nothing else, and come without outputs."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from nbclient import NotebookClient
from rich.console import Console

from exfuse.analysis.rendering import render_study
from tests.analysis.synthetic import StudyBuilder
from tests.conftest import REPOSITORY
from tests.pace import patience
from tests.sharing import amount

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
STUDY = REPOSITORY / "experiments" / "table3_photos"
# Cells that the test puts around a notebook's own, to see which files it opens and which interpreter runs it.
WATCH = """
import sys
_opened = []
sys.addaudithook(lambda event, given: _opened.append((str(given[0]), str(given[1]))) if event == "open" else None)
"""
TELL = """
import json
print(json.dumps({"opened": _opened, "python": sys.executable}))
"""


@pytest.fixture(autouse=True)
def only_this_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel of this environment, whatever the user's own Jupyter knows; no history in the user's home."""
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")


def source_of(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    NotebookClient(
        notebook, timeout=int(patience(300)), kernel_name=NATIVE_KERNEL_NAME, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def fingerprint(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_notebook_runs_from_start_to_end_and_reads_experiments_only() -> None:
    notebook = source_of(REPOSITORY / "notebooks" / "explore_study.ipynb")
    cells = [nbformat.v4.new_code_cell(WATCH), *notebook.cells, nbformat.v4.new_code_cell(TELL)]
    before = fingerprint(STUDY)
    done = execute(nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata), REPOSITORY / "notebooks")
    assert fingerprint(STUDY) == before

    text = printed(done)
    told = json.loads(text.splitlines()[-1])
    assert told["python"] == sys.executable
    read = {Path(path) for path, _ in told["opened"] if Path(path).is_absolute()}
    data = {path for path in read if path.is_relative_to(REPOSITORY) and not path.is_relative_to(Path(sys.prefix))}
    data = {
        path.relative_to(REPOSITORY) for path in data if path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    data = {path for path in data if not path.parts[0].endswith(".egg-info")}  # what says that the package is installed
    data = {path for path in data if path.parts[:2] not in {("conf", "slot"), ("conf", "data")}}  # the package's own tables
    assert {path.parts[0] for path in data} == {"experiments"}
    assert Path("experiments/table3_photos/study.json") in data
    assert not [path for path in data if path.suffix in (".jpg", ".png", ".ckpt", ".safetensors")]

    assert "The same as the published table.md: True" in text
    assert "publishes no images" in text or (STUDY / "examples" / "index.json").is_file()
    pictures = [output for cell in done.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert len(pictures) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("seeds", amount([(0,)], [(0,), (0, 1)]))  # the published study has several
def test_another_study_can_be_explored(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    """Of few seeds, with a row that did not finish, a name that Markdown could misread and a class that never occurs."""
    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.7, seeds)
    builder.row("seb*", 0.8, seeds, {"seb": "product"}, on="baseline")
    builder.row("ecre", 0.8, seeds, {"ecre": "subpixel"}, on="baseline", status=dict.fromkeys(seeds, "failed"))
    study = builder.finish()
    render_study(study, Console(quiet=True))
    notebook = source_of(REPOSITORY / "notebooks" / "explore_study.ipynb")
    (cell,) = [cell for cell in notebook.cells if cell.source.find("STUDY = ") >= 0]
    cell.source = cell.source.replace('"experiments/table3_photos"', repr(str(study)))
    text = printed(execute(notebook, REPOSITORY))  # the interval by hand is asserted in the notebook itself
    assert "The same as the published table.md: True" in text
    assert "publishes no images" in text


@pytest.mark.slow
def test_a_technique_in_one_s_own_network_runs_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = source_of(REPOSITORY / "notebooks" / "own_network.ipynb")
    (cell,) = [cell for cell in notebook.cells if "steps: int = 40" in cell.source]
    cell.source = cell.source.replace("steps: int = 40", "steps: int = 2")
    monkeypatch.setenv("EXFUSE_SOURCE", str(REPOSITORY))
    text = printed(execute(notebook, tmp_path))
    assert "starts as without: True" in text
    assert "every parameter learns: True" in text
    assert "channels of the head: 27 instead of 3" in text
    assert re.search(r"difference [+-]", text)


def test_the_first_cell_fetches_what_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run here, not in a kernel: from a git address, from a folder, and not at all."""
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    shutil.copytree(STUDY, source / "experiments" / STUDY.name, ignore=shutil.ignore_patterns("*.svg", "*.png", "records"))
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-C", str(source)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (cell,) = [cell for cell in source_of(REPOSITORY / "notebooks" / "explore_study.ipynb").cells if "STUDY = " in cell.source]
    for named, found in ((source.as_uri(), elsewhere / "exfuse"), (str(source), source)):
        monkeypatch.setenv("EXFUSE_SOURCE", named)
        names: dict[str, Any] = {}
        exec(cell.source, names)
        assert names["ROOT"] == found
        assert (names["ROOT"] / names["STUDY"] / "study.json").is_file()
    monkeypatch.delenv("EXFUSE_SOURCE")
    with pytest.raises(ValueError, match="set EXFUSE_SOURCE"):
        exec(cell.source, {})


def test_the_kernel_is_that_of_this_environment() -> None:
    manager = KernelSpecManager()
    assert NATIVE_KERNEL_NAME in manager.find_kernel_specs()
    folder = Path(manager.get_kernel_spec(NATIVE_KERNEL_NAME).resource_dir)
    assert folder.is_relative_to(Path(sys.prefix)) or "ipykernel" in folder.parts
    for path in NOTEBOOKS:
        assert source_of(path).metadata.kernelspec.name == NATIVE_KERNEL_NAME


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_committed_notebook_has_no_outputs_and_no_execution_counts(path: Path) -> None:
    for cell in source_of(path).cells:
        assert not cell.get("outputs"), f"{path.name} has outputs: run .venv/bin/nbstripout {path.relative_to(REPOSITORY)}"
        assert cell.get("execution_count") is None
    assert path.stat().st_size < 100_000


def test_the_tool_of_the_pre_commit_hook_finds_outputs_and_takes_them_out(tmp_path: Path) -> None:
    path = tmp_path / "one.ipynb"
    cell = nbformat.v4.new_code_cell("print(1)", execution_count=3)
    cell.outputs = [nbformat.v4.new_output("stream", text="1\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    strip = [str(Path(sys.executable).parent / "nbstripout")]
    assert subprocess.run([*strip, "--verify", str(path)], check=False, capture_output=True).returncode != 0
    subprocess.run([*strip, str(path)], check=True)
    assert subprocess.run([*strip, "--verify", str(path)], check=False).returncode == 0
    assert source_of(path).cells[0].outputs == []
