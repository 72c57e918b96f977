"""A table as a LaTeX fragment with booktabs rules, to be \\input into a document."""

import unicodedata
from collections.abc import Sequence

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
_MARKS = {"†": r"\dagger", "‡": r"\ddagger", "§": r"\S", "¶": r"\P", "‖": r"\|", "⊣": r"\dashv", "◊": r"\diamond"}


def render(tables: Sequence[Table]) -> str:
    """Every table in an environment of its own."""
    needs = " ".join(f"\\usepackage{{{package}}}" for package in PACKAGES)
    return "\n".join([f"% Needs {needs}", *(_table(table) for table in tables)])


def escape(text: str) -> str:
    """Text as one line that LaTeX shows as it is; a letter that its fonts lack becomes its code point."""
    escaped = "".join(_letter(letter) for letter in " ".join(text.split()))
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


def _table(table: Table) -> str:
    caption = ". ".join(escape(part) for part in (table.title, *table.notes) if part)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{_label(table.name)}}}"]
    if table.rows:
        alignment = "".join(_ALIGN[column.align] for column in table.columns)
        lines += [r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{alignment}}}"]
        lines += [r"\toprule", _line([escape(column.header) for column in table.columns]), r"\midrule"]
        lines += [_line([_cell(cell) for cell in row]) for row in table.cells()]
        lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.footnotes:
        lines.append(r"\par\medskip\raggedright\footnotesize")
        lines += [rf"{escape(f'{footnote.mark} {footnote.text}')}\par" for footnote in table.footnotes]
    return "\n".join([*lines, r"\end{table}", ""])


def _label(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    command = "" if not text else "textbf" if cell.strong else "emph" if cell.state else ""
    shown = rf"\{command}{{{text}}}" if command else text
    return f"{shown}$^{{{''.join(_MARKS[mark] for mark in cell.marks)}}}$" if cell.marks else shown


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
