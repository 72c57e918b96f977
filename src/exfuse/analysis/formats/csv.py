"""A table for programs: one value a column, numbers unrounded as far as they are meaningful, no units in the cells."""

from exfuse.analysis.document import Table, Value
from exfuse.files import as_cell, as_csv

_DIGITS = 6  # significant ones: far below any noise, and the same on every machine


def render(table: Table) -> str:
    """The cells' values by name, in the order of the table's columns, then the marks of the row's cells. Empty: none."""
    rows: list[dict[str, Value]] = []
    for cells in table.cells():
        marks = "".join(dict.fromkeys(mark for cell in cells for mark in cell.marks))
        rows.append({name: value for cell in cells for name, value in cell.values.items()} | {"marks": marks})
    names = sorted(dict.fromkeys(name for row in rows for name in row), key=lambda name: name == "marks")
    return as_csv([names, *([_show(row.get(name)) for name in names] for row in rows)])


def _show(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.{_DIGITS}g}"
    return str(as_cell(value))
