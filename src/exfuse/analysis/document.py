"""A table as a document without a format: what every renderer in `exfuse.analysis.formats` shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from exfuse.errors import UserError
from exfuse.store.metric import MINUS as MINUS

SHOWN = 6  # names in a list before "and N more"
Value = float | int | str | None
TIMES, EN_DASH = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"  # easily mistaken for x and -


@dataclass(frozen=True)
class Column:
    """A column: a key to find its cells, a header, one line that explains it, and the columns that it is shown with."""

    key: str
    header: str
    explanation: str
    align: Literal["left", "right", "centre"] = "right"
    group: str = "score"


@dataclass(frozen=True)
class Cell:
    """What stands at one place of a table.

    Attributes:
        text: for people, numbers rounded.
        values: for programs, by the name of a CSV column; several where the text joins several numbers.
        marks: of footnotes.
        state: the text says why there is no number ("missing", "other data").
        strong: a finding, which every format sets in bold.
    """

    text: str
    values: Mapping[str, Value] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    state: bool = False
    strong: bool = False


EMPTY = Cell("")


@dataclass(frozen=True)
class Footnote:
    """A sentence below the table; with a mark it belongs to the cells that bear it, ``about`` is their group of columns."""

    text: str
    mark: str = ""
    about: str = ""


@dataclass(frozen=True)
class Table:
    """Title, columns, rows of cells by column key, footnotes.

    Attributes:
        name: an identifier, such as the study's name.
        notes: sentences between title and table, such as the study's question.
        command: that makes the table anew; may be empty.
        brief: what of the footnotes without a mark a paper has room for.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]
    footnotes: Sequence[Footnote] = ()
    notes: Sequence[str] = ()
    command: str = ""
    brief: Sequence[str] = ()

    def cells(self) -> list[list[Cell]]:
        """Row by row, in the order of the columns; a cell that a row lacks is empty."""
        return [[row.get(column.key, EMPTY) for column in self.columns] for row in self.rows]

    def marked(self) -> list[Footnote]:
        """The footnotes whose marks a cell of the table bears."""
        used = {mark for row in self.cells() for cell in row for mark in cell.marks}
        return [footnote for footnote in self.footnotes if footnote.mark in used]

    def choose(self, keys: Sequence[str]) -> "Table":
        """The table with these columns alone, in this order.

        Raises:
            UserError: naming one that it has not.
        """
        known = {column.key: column for column in self.columns}
        if wrong := [key for key in keys if key not in known]:
            raise UserError(f"{self.title}: no column {wrong[0]!r}. There are {', '.join(known)}.")
        chosen = replace(self, columns=[known[key] for key in keys])
        return replace(chosen, footnotes=[*chosen.marked(), *(one for one in self.footnotes if not one.mark)])
