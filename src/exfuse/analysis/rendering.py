"""A study folder's tables and figures: written, or compared with what was written before."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exfuse.analysis.comparisons import Compared, Comparison, compare, effects_of
from exfuse.analysis.document import Table
from exfuse.analysis.effects import FactorialEffects
from exfuse.analysis.formats import csv, html, latex, markdown, numbers, terminal
from exfuse.analysis.printed import printed
from exfuse.analysis.table import build_effects_table, build_table
from exfuse.errors import UserError
from exfuse.files import write_text
from exfuse.store.study import Study
from exfuse.store.study_file import FIGURES, FILE
from exfuse.store.study_reading import load_study
from exfuse.terminal import Console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DIFF_LINES = 12


def render_study(folder: Path, console: Console, redraw: bool = True) -> None:
    """Write the tables and figures of the study in ``folder`` beside its records, show the table and name the files.

    The same records give the same bytes, on one version of the libraries.

    Args:
        folder: of the study.
        console: shows the table, unless it is quiet.
        redraw: False keeps the figures that are there, where the records are known to be those they were drawn from.

    Raises:
        UserError: see `exfuse.store.study_reading.load_study`; nothing is written then.
    """
    rendering = Rendering(load_study(folder))
    texts = rendering.texts()
    for name, text in texts.items():
        write_text(folder / name, text)
    drawn = _draw(rendering, folder, redraw)
    for table in () if console.quiet else rendering.tables:  # a quiet console would lay it out all the same
        console.print(terminal.render(table, console.width))
    names = [*texts, *(f"{name}.{{svg,png}}" for name in drawn)]
    console.print(f"{folder}: {', '.join(names)}", soft_wrap=True, highlight=False)


def _draw(rendering: "Rendering", folder: Path, redraw: bool) -> list[str]:
    """Names of the study's figures, drawn where they are missing or wanted anew; those of other records are removed."""
    found = sorted({path.stem for path in folder.glob("*.svg")} & {path.stem for path in folder.glob("*.png")} & set(FIGURES))
    if not redraw and found and not any(_is_older(folder / f"{name}.svg", folder / FILE) for name in found):
        return found
    from exfuse.analysis.figures import style  # matplotlib: most of the time of a table

    drawn, there = rendering.figures(), {path for path in folder.iterdir() if path.suffix in style.ALL}
    for name in FIGURES:
        page = {(folder / name).with_suffix(suffix) for suffix in style.SUFFIXES} if name in drawn else set()
        old = {path for path in there if path.stem in (name, f"{name}{style.OF_COLUMN}")}  # others that were asked for once
        for path in sorted(old | page) if name not in drawn else ():
            path.unlink()
        for stem, width in style.WIDTHS.items() if name in drawn else ():
            suffixes = sorted({path.suffix for path in old | page if path.stem == f"{name}{stem}"})
            if suffixes:
                style.save(drawn[name](width), folder / f"{name}{stem}", suffixes)
    return list(drawn)


def _is_older(path: Path, other: Path) -> bool:
    """Of a start that was cut off before it drew."""
    return path.stat().st_mtime_ns < other.stat().st_mtime_ns


def render_figures(folder: Path, suffixes: Sequence[str], stems: Sequence[str]) -> list[Path]:
    """Draw every figure of a study in these formats and widths of `exfuse.analysis.figures.style`; the files.

    Raises:
        UserError: see `exfuse.store.study_reading.load_study`; nothing is written then.
    """
    from exfuse.analysis.figures import style

    drawn = Rendering(load_study(folder)).figures().items()
    return [
        path
        for name, draw in drawn
        for stem in stems
        for path in style.save(draw(style.WIDTHS[stem]), folder / f"{name}{stem}", suffixes)
    ]


def check_study(folder: Path) -> None:
    """Compare the tables in ``folder`` with what its records give; figures need only exist. Writes nothing.

    Raises:
        UserError: naming the first file that is missing or different, with the first lines of the difference.
    """
    study = load_study(folder)
    for row, seed, _ in study.done():
        row.runs[seed].additive()  # of runs that nothing is compared with, too
    rendering = Rendering(study)
    remedy = f"Render it anew: exfuse study tabulate {folder}"
    for name, expected in rendering.texts().items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing. {remedy}")
        if (found := path.read_bytes().decode(errors="replace")) != expected:
            raise UserError(f"{path} is not what its records give:\n{_diff(found, expected)}\n{remedy}")
    from exfuse.analysis.figures.style import SUFFIXES

    for name in rendering.figures():
        for suffix in SUFFIXES:
            if not (path := (folder / name).with_suffix(suffix)).is_file():
                raise UserError(f"{path} is missing. {remedy}")


class Choice(NamedTuple):
    """What of a study's table is written, for print above all.

    Attributes:
        columns: keys, in order; none: those that the format shows by itself.
        names: see `exfuse.analysis.printed.printed`.
        width: see `exfuse.analysis.formats.latex.render`.
    """

    columns: Sequence[str] = ()
    names: Mapping[str, str] = {}
    width: latex.Place = "auto"


_NOTHING_CHOSEN = Choice()
KEPT = ("md", "tex", "csv", "html")  # what every study keeps, and is checked by
SUFFIXES = {"tex": "tex", "csv": "csv", "html": "html", "md": "md", "word": "doc.html", "numbers": "numbers.csv"}  # by format


def render_choice(folder: Path, formats: Sequence[str], choice: Choice) -> list[Path]:
    """Write a study's table as chosen, in formats of `SUFFIXES`, and nothing else; the files.

    What differs from the study's own table is called ``chosen``, so that both stay as they are told from each other.

    Raises:
        UserError: if the study, or what was chosen of it, is not there; nothing is written then.
    """
    rendering = Rendering(load_study(folder))
    stem = "table" if choice == _NOTHING_CHOSEN else "chosen"
    texts = {folder / f"{stem}.{SUFFIXES[one]}": rendering.text(SUFFIXES[one], choice) for one in formats}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


@dataclass(frozen=True)
class Rendering:
    """Everything that a study's files show, each number computed once."""

    study: Study

    @cached_property
    def compared(self) -> Compared:
        return compare(self.study)

    @property
    def comparisons(self) -> dict[str, Comparison]:
        return self.compared.rows

    @cached_property
    def effects(self) -> FactorialEffects | str:
        return effects_of(self.study) if self.study.factors else "the study is not factorial"

    @cached_property
    def tables(self) -> list[Table]:
        found = [build_table(self.study, self.compared), build_effects_table(self.study, self.effects)]
        return [table for table in found if table is not None]

    def texts(self) -> dict[str, str]:
        """Content of each text file by name."""
        found = {f"table.{suffix}": self.text(suffix) for suffix in KEPT}
        return found | ({"effects.csv": csv.render(self.tables[1])} if len(self.tables) > 1 else {})

    def text(self, suffix: str, choice: Choice = _NOTHING_CHOSEN) -> str:
        """Content of one file, see `SUFFIXES`; of chosen columns without the table of effects.

        Raises:
            UserError: if what was chosen is not there.
        """
        if suffix == "numbers.csv":
            return numbers.render(self.study, self.compared)
        first, *others = self.tables
        if suffix in ("tex", "doc.html"):
            first = printed(self.study, first, self.compared, choice.columns, choice.names)
        elif choice.columns:
            first = first.choose(choice.columns)
        tables = [first] if choice.columns else [first, *others]
        if suffix == "csv":
            return csv.render(first)
        if suffix == "tex":
            return latex.render(tables, choice.width)
        return {"md": markdown.render, "html": html.render, "doc.html": html.render_for_word}[suffix](tables)

    def figures(self) -> dict[str, "Callable[[float], Figure]"]:
        """What draws each figure that the records allow so many inches wide, by name."""
        from exfuse.analysis.figures import classes, cost, effects, ladder, trimap

        found: dict[str, Callable[[float], Figure]] = {"ladder": lambda width: ladder.draw(self.study, self.comparisons, width)}
        if cost.rows_with_cost(self.study):
            found["cost"] = lambda width: cost.draw(self.study, width)
        if classes.pairs(self.study):
            found["classes"] = lambda width: classes.draw(self.study, width)
        if trimap.rows_with_areas(self.study):
            found["trimap"] = lambda width: trimap.draw(self.study, width)
        known = self.effects
        if isinstance(known, FactorialEffects):
            found["effects"] = lambda width: effects.draw(self.study, known, width)
        return found


def _diff(found: str, expected: str) -> str:
    names = ("in the folder", "from the records")
    lines = list(difflib.unified_diff(found.splitlines(), expected.splitlines(), *names, lineterm="", n=0))
    shown = [line if len(line) <= 160 else f"{line[:157]}..." for line in lines[:_DIFF_LINES]]
    return "\n".join(shown + ([f"... and {len(lines) - _DIFF_LINES} lines more"] if len(lines) > _DIFF_LINES else []))
