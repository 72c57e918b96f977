"""A table as GitHub's Markdown."""

import re
from collections.abc import Iterable, Sequence

from exfuse.analysis.document import Cell, Table

_RULES = {"left": ":---", "right": "---:", "centre": ":---:"}
# An underscore within a word means nothing to Markdown; the rest would.
_SPECIAL = re.compile(r"[\\`*|<>~#&$]|(?<!\w)_|_(?!\w)|\[(?=[^\]]*\]\()")


def render(tables: Sequence[Table]) -> str:
    """Every table under a heading of its own, with its footnotes."""
    return "\n".join(_table(table) for table in tables)


def escape(text: str) -> str:
    """Text as one line that Markdown shows as it is."""
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", " ".join(text.split()))


def table_lines(head: Sequence[str], body: Iterable[Sequence[str]], rules: Sequence[str] = ()) -> list[str]:
    """A table of escaped cells; ``rules`` align its columns, ``---:`` to the right."""
    return [_line(cells) for cells in (head, rules or ["---"] * len(head), *body)]


def _table(table: Table) -> str:
    lines = [f"### {escape(table.title)}", ""]
    for note in filter(None, table.notes):
        lines += [escape(note), ""]
    if table.rows:
        body = ([_cell(cell) for cell in row] for row in table.cells())
        rules = [_RULES[column.align] for column in table.columns]
        lines += table_lines([escape(column.header) for column in table.columns], body, rules)
        lines.append("")
    lines += [f"- {f'{footnote.mark} ' if footnote.mark else ''}{escape(footnote.text)}" for footnote in table.footnotes]
    if table.command:
        lines += ["", "Made by", "", *(f"    {line}" for line in table.command.splitlines())]  # indented: shown as it is
    return "\n".join(lines) + "\n"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    around = "" if not text else "**" if cell.strong else "*" if cell.state else ""
    shown = f"{around}{text}{around}"
    return f"{shown} {''.join(cell.marks)}" if cell.marks else shown


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
