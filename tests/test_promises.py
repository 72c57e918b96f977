"""``docs/promises.md``: every promise is held by tests that there are, and every kind of trouble by promises."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
KINDS = ("kill", "disk", "corruption", "hostile folder", "bad input")
ROW = re.compile(r"^\| (?P<promise>.+?) \| (?P<kinds>.+?) \| (?P<tests>.*?) \|$")


def rows() -> list[tuple[str, list[str], list[str]]]:
    """Of each promise: its words, what it is held against, and its tests as ``FILE::NAME``."""
    lines = (REPOSITORY / "docs" / "promises.md").read_text().splitlines()
    found = [match for line in lines if (match := ROW.match(line)) and match["kinds"] not in ("against", "---")]
    return [(match["promise"], match["kinds"].split(", "), re.findall(r"`([^`]+)`", match["tests"])) for match in found]


@cache
def names_in(path: Path) -> set[str]:
    """Names of the test functions of a file."""
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize(("promise", "kinds", "tests"), rows(), ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_a_promise_is_held_by_tests(promise: str, kinds: list[str], tests: list[str]) -> None:
    assert tests, f"nothing tests: {promise}"
    assert {*kinds} <= {*KINDS}
    for test in tests:
        file, _, name = test.partition("::")
        assert name in names_in(REPOSITORY / file), f"no such test: {test}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_trouble_has_promises(kind: str) -> None:
    assert any(kind in kinds for _, kinds, _ in rows())


def test_every_line_of_the_table_is_read() -> None:
    table = [line for line in (REPOSITORY / "docs" / "promises.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows()) == len(table) - 2  # its head
