"""The house has floors: a room imports from those below it alone, inside functions too, and some rooms never need torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import exfuse

PACKAGE = Path(exfuse.__file__).parent
# From the ground up; rooms of one line know nothing of each other unless `BESIDE` says so.
FLOORS = (
    ("devices", "errors", "files", "imports", "limits", "memory", "palette", "process", "randomness", "terminal", "timing"),
    ("metrics",),
    ("store",),
    ("data",),
    ("models",),
    ("techniques",),
    ("fusing",),
    ("tasks",),
    ("config",),
    ("composition",),
    ("analysis",),
    ("tracking",),
    ("runs",),
    ("sweeps", "exporting", "benchmarks", "data_setup", "importing", "reports"),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
BESIDE = {("process", "devices"), *((room, "errors") for room in ("devices", "files", "memory", "process", "terminal"))}
DOORS = {"__init__", "__main__", "loading"}  # what people import and start, above everything
ANALYSIS = {"errors", "files", "palette", "randomness", "process", "terminal", "metrics", "store", "analysis"}


def room_of(module: str) -> str:
    """``store`` of ``exfuse.store.record``."""
    return module.split(".")[1] if "." in module else "__init__"


def imports() -> list[tuple[Path, int, str, str]]:
    """File, line, its room and the room that it imports from, for every import of our own."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        here = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"exfuse.{alias.name}" for alias in node.names] if node.module == "exfuse" else [node.module]
            found += [(path, node.lineno, here, room_of(name)) for name in names if name.split(".")[0] == "exfuse"]
    return found


def test_every_room_stands_on_a_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - DOORS == set(FLOOR)


def test_nothing_imports_upwards_or_sideways():
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {there}"
        for path, line, here, there in imports()
        if here not in DOORS and there != here and FLOOR.get(there, 99) >= FLOOR[here] and (here, there) not in BESIDE
    ]
    assert not wrong, "\n".join(wrong)


def test_analysis_reads_records_alone():
    wrong = [
        f"{path.name}:{line} imports {there}"
        for path, line, here, there in imports()
        if here == "analysis" and there not in ANALYSIS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ["store", "config", "analysis", "metrics"])
def test_rooms_without_torch(room):
    modules = [
        ".".join(("exfuse", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted((PACKAGE / room).rglob("*.py"))
    ]
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def named_in(path: Path) -> set[str]:
    """What a module defines at its top level, in classes too, and what it imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def exists(reference: str) -> bool:
    """Whether a dotted name is that of a module, or of what one holds."""
    place, parts = PACKAGE, reference.split(".")[1:]
    while parts and (place / parts[0]).is_dir():
        place = place / parts.pop(0)
    module = place / "__init__.py" if not parts or not (place / f"{parts[0]}.py").is_file() else place / f"{parts.pop(0)}.py"
    return module.is_file() and {*parts} <= named_in(module) | {"__doc__"}


def test_what_text_names_is_there():
    """Names of our own in backticks, in docstrings and documents: they are left behind where something moves."""
    checkout = Path(__file__).parent.parent
    told = [path for ending in ("src/**/*.py", "tests/**/*.py", "docs/**/*.md", "*.md") for path in checkout.glob(ending)]
    told.remove(checkout / "CHANGELOG.md")  # which names what is gone
    named = [
        (path, name) for path in told for name in re.findall(r"`(exfuse(?:\.\w+)+)(?:\(\))?`", path.read_text(encoding="utf-8"))
    ]
    wrong = [f"{path.relative_to(checkout)} names {name}" for path, name in named if not exists(name)]
    assert len(named) > 50
    assert not wrong, "\n".join(wrong)
