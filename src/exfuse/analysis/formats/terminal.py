"""A table as Rich draws it in a terminal: in several parts, one below the other, where it is wider than the terminal."""

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from exfuse.analysis.document import Cell, Table
from exfuse.errors import plural
from exfuse.terminal import RichTable as RichTable

_JUSTIFY = {"left": "left", "right": "right", "centre": "center"}
_MOST_ROWS = 100  # more would only scroll by


def render(table: Table, width: int) -> RenderableType:
    """The table with its footnotes below; texts are data, never Rich's markup.

    Args:
        table: its first column is repeated in every part.
        width: of the terminal, in characters.
    """
    cells = table.cells()[:_MOST_ROWS]
    parts: list[RenderableType] = [_draw(table, cells, chosen) for chosen in _parts(table, cells, width)] if table.rows else []
    if len(table.rows) > _MOST_ROWS:
        parts.append(Text(f"The first {_MOST_ROWS} of {plural(len(table.rows), 'row')}; the files hold all.", style="italic"))
    notes = [Text(f"{footnote.mark or '·'} {footnote.text}", style="dim") for footnote in table.footnotes]
    spaced = [Padding(part, (1, 0, 0, 0)) for part in parts]
    return Group(Text(table.title, style="bold"), *spaced, Padding(Group(*notes), (1, 0, 1, 0)))


def _parts(table: Table, cells: list[list[Cell]], width: int) -> list[list[int]]:
    """Places of the columns that fit beside the first one."""
    needed = [
        max(cell_len(column.header), *(cell_len(_cell(row[place]).plain) for row in cells)) + 2
        for place, column in enumerate(table.columns)
    ]
    parts: list[list[int]] = [[0]]
    for place in range(1, len(needed)):
        dividers = len(parts[-1]) - 2  # one between two columns, less the last one's padding
        if sum(needed[other] for other in parts[-1]) + needed[place] + dividers > width and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(place)
    return parts


def _draw(table: Table, cells: list[list[Cell]], chosen: list[int]) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    for place in chosen:
        drawn.add_column(Text(table.columns[place].header), justify=_JUSTIFY[table.columns[place].align])  # type: ignore[arg-type]
    for row in cells:
        drawn.add_row(*(_cell(row[place]) for place in chosen))
    return drawn


def _cell(cell: Cell) -> Text:
    text = Text(cell.text, style="bold" if cell.strong else "italic yellow" if cell.state else "")
    return text.append(f" {''.join(cell.marks)}") if cell.marks else text
