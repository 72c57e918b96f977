"""A table as a LaTeX fragment with booktabs rules, to be \\input into a document of one or two columns."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from exfuse.analysis.document import EN_DASH, MINUS, TIMES, Cell, Table

PACKAGES = ("booktabs", "amssymb", "graphicx")
_ALIGN = {"left": "l", "right": "r", "centre": "c"}
_TRANSLATION = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "✓": r"$\checkmark$",
    "±": r"$\pm$",
    MINUS: r"$-$",
    TIMES: r"$\times$",
    "Δ": r"$\Delta$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "‖": r"$\|$",
    "⊣": r"$\dashv$",
    "◊": r"$\diamond$",
    EN_DASH: r"\textendash{}",
    "⁹": r"$^{9}$",
}
_ACCENTS = {  # by the combining character that Unicode takes a letter apart into
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0308": r"\"",
    "\u0327": r"\c",
    "\u030c": r"\v",
}
_MARKS = {"*": "*", "†": r"\dagger", "‡": r"\ddagger", "§": r"\S", "¶": r"\P", "‖": r"\|", "⊣": r"\dashv", "◊": r"\diamond"}
_OPENING = re.compile(r"""(^|[\s(\[])(["'])(?=\S)""")
_BREAKS = re.compile(r"(\\_|[/=]|(?<=[a-z])\.)(?=[\w\\])")  # where a long name may go on in the next line
COLUMN = 3.25  # inches: of CVPR's pages, the narrowest of those that people write for
_BELOW_CAPTION = r"\setlength{\belowcaptionskip}{4pt}"  # which article leaves to captions below figures
_POINTS = 8  # \footnotesize in a document of 10 points
_GAP = 8  # points between two columns of a table
# Shares of the type's size that letters take in Times and Computer Modern, the wider of both.
_WIDTHS = {
    " ": 0.34,
    "i": 0.29,
    "l": 0.29,
    "j": 0.31,
    "f": 0.34,
    "t": 0.4,
    "r": 0.4,
    "m": 0.84,
    "w": 0.73,
    "W": 1.03,
    "M": 0.92,
}

Place = Literal["auto", "column", "page"]


def render(tables: Sequence[Table], place: Place = "auto") -> str:
    """Every table in an environment of its own, its notes without a mark cut down to `Table.brief`.

    Args:
        tables: in 8 points; one that is wider than its place all the same shrinks to it, as LaTeX measures it.
        place: "column" of a page, all of the "page" (``table*``), or the first that is wide enough.
    """
    needs = " ".join(f"\\usepackage{{{package}}}" for package in PACKAGES)
    return "\n".join([f"% Needs {needs}. All notes are in table.md.", *(_table(table, place) for table in tables)])


def width(table: Table) -> float:
    """About how many inches a table takes in `_POINTS`."""
    lines = [
        [column.header for column in table.columns],
        *([cell.text + "".join(cell.marks) for cell in row] for row in table.cells()),
    ]
    widest = [max(sum(_width(letter) for letter in text) for text in texts) for texts in zip(*lines, strict=True)]
    return (_POINTS * sum(widest) + _GAP * (len(widest) - 1)) / 72


def _width(letter: str) -> float:
    return _WIDTHS.get(letter) or (0.75 if letter.isupper() or letter in f"{MINUS}{TIMES}±✓%<>+" else 0.53)


def escape(text: str) -> str:
    """Text as one line that LaTeX shows as it is; a letter that its fonts lack becomes its code point."""
    line = " ".join(text.replace("\0", "").split())
    opened = _OPENING.sub(lambda quote: quote[1] + {'"': "\0\0", "'": "\0"}[quote[2]], line)  # no text holds a \\0
    escaped = "".join("`" if letter == "\0" else _letter(letter) for letter in opened)
    escaped = escaped.replace("--", "-{}-")  # two hyphens would become a dash
    return f"{{[}}{escaped[1:]}" if escaped.startswith("[") else escaped  # which would be an argument of the line before


def _letter(letter: str) -> str:
    if letter in _TRANSLATION:
        return _TRANSLATION[letter]
    if letter.isascii():
        return letter if letter.isprintable() else ""
    parts = unicodedata.normalize("NFD", letter)
    if parts[0].isascii() and parts[0].isalpha() and len(parts) == 2 and parts[1] in _ACCENTS:
        return f"{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"U+{ord(letter):04X}"


def _table(table: Table, place: Place) -> str:
    wide = place == "page" or (place == "auto" and width(table) > COLUMN)
    environment = "table*" if wide else "table"
    lines = [rf"\begin{{{environment}}}", r"\centering", _BELOW_CAPTION, rf"\caption{{{_flowing(table.title)}}}"]
    lines.append(rf"\label{{tab:{_label(table.name)}}}")
    if table.rows:
        alignment = "".join(_ALIGN[column.align] for column in table.columns)
        lines += [r"\footnotesize", rf"\setlength{{\tabcolsep}}{{{_GAP / 2:g}pt}}"]
        lines += [r"\sbox0{%", rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", r"\toprule"]
        lines += [_line([escape(column.header) for column in table.columns]), r"\midrule"]
        lines += [_line([_cell(cell) for cell in row]) for row in table.cells()]
        lines += [r"\bottomrule", r"\end{tabular}}%"]
        lines.append(r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi")
    notes = [f"{footnote.mark} {footnote.text}" for footnote in table.marked()] + list(table.brief)
    if notes:
        lines += [r"\par\smallskip", r"\parbox{\linewidth}{\scriptsize\raggedright", *map(_flowing, notes)]
        lines[-1] += "}"
    return "\n".join([*lines, rf"\end{{{environment}}}", ""])


def _flowing(text: str) -> str:
    """Text that is broken into lines, names of files and settings too."""
    return _BREAKS.sub(r"\1\\allowbreak{}", escape(text))


def _label(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    command = "" if not text else "textbf" if cell.strong else "emph" if cell.state else ""
    shown = rf"\{command}{{{text}}}" if command else text
    return f"{shown}$^{{{''.join(_MARKS[mark] for mark in cell.marks)}}}$" if cell.marks else shown


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
