"""A table for programs: one value a column, numbers unrounded as far as they are meaningful, no units in the cells."""

from collections import Counter
from collections.abc import Mapping

from exfuse.analysis.document import Table, Value
from exfuse.files import as_cell, as_csv

_DIGITS = 6  # significant ones: far below any noise, and the same on every machine


def render(table: Table) -> str:
    """The cells' values by name, in the order of the table's columns, then the marks of the row's cells. Empty: none.

    Settings of other code that are called as another value is, such as ``p``, stand under their whole key.
    """
    keys = [column.key for column in table.columns]
    named = {(key, name) for cells in table.cells() for key, cell in zip(keys, cells, strict=True) for name in cell.values}
    called = {(key, name): name for key, name in named}
    while whole := _taken_twice(called):
        called |= whole
    rows: list[dict[str, Value]] = []
    for cells in table.cells():
        marks = "".join(dict.fromkeys(mark for cell in cells for mark in cell.marks))
        of_row = zip(keys, cells, strict=True)
        values = {called[key, name]: value for key, cell in of_row for name, value in cell.values.items()}
        rows.append(values | {"marks": marks})
    names = sorted(dict.fromkeys(name for row in rows for name in row), key=lambda name: name == "marks")
    return as_csv([names, *([_show(row.get(name)) for name in names] for row in rows)])


def _taken_twice(called: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Of values with a name that others have as well those that have a longer one, with that."""
    times = Counter(["marks", *called.values()])
    twice = ((pair, pair[0]) for pair, shown in called.items() if times[shown] > 1)
    return {pair: key for pair, key in twice if called[pair] != key and key.endswith(f".{pair[1]}")}


def _show(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.{_DIGITS}g}"
    return str(as_cell(value))
