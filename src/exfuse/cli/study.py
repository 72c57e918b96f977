"""``exfuse study``: what can be studied, and what was, as tables and figures."""

from pathlib import Path
from typing import Literal

from exfuse.cli.help import options_of
from exfuse.store.study_file import find_studies
from exfuse.terminal import Console, RichTable


def list_all() -> None:
    """Print the studies of the config search path."""
    table = RichTable("study", "question", box=None)
    for name, meaning in options_of("study").items():
        table.add_row(name, meaning)
    Console().print(table)


def tabulate(
    studies: list[str],
    quiet: bool,
    format: list[Literal["tex", "csv", "html", "md", "word", "numbers"]] | None,
    columns: list[str] | None,
    names: dict[str, str] | None,
    width: Literal["auto", "column", "page"],
) -> None:
    """Render studies in these folders from their records.

    Args:
        quiet: prints nothing.
        format: one or several; None: tables of all kinds that a study keeps, and its figures.
        columns, names, width: see `exfuse.analysis.rendering.Choice`.
    """
    from exfuse.analysis.rendering import SUFFIXES, Choice, render_choice, render_study
    from exfuse.analysis.texts import write_texts

    console, folders = Console(quiet=quiet), [Path(study) for study in studies]
    choice = Choice(columns or (), names or {}, width)
    if format or choice != Choice():
        formats: list[str] = [*format] if format else [one for one in SUFFIXES if one != "numbers"]
        for path in (path for folder in find_studies(folders) for path in render_choice(folder, formats, choice)):
            console.print(str(path), soft_wrap=True, highlight=False)
        return
    for folder in find_studies(folders):
        render_study(folder, console)
    for path in write_texts(folders):
        console.print(f"{path}: blocks written anew.", soft_wrap=True, markup=False, highlight=False)


def figures(
    studies: list[str],
    quiet: bool,
    format: list[Literal["svg", "png", "pdf"]],
    width: list[Literal["column", "page"]],
) -> None:
    """Draw all figures of studies in these folders in every ``format`` and ``width``; ``quiet`` prints nothing."""
    from exfuse.analysis.figures.style import OF_COLUMN
    from exfuse.analysis.rendering import render_figures

    console = Console(quiet=quiet)
    stems = [OF_COLUMN if one == "column" else "" for one in width]
    for folder in find_studies([Path(study) for study in studies]):
        for path in render_figures(folder, [f".{one}" for one in format], stems):
            console.print(str(path), soft_wrap=True, highlight=False)


def check(studies: list[str], quiet: bool) -> None:
    """Check studies in these folders, and what texts there say, against their records; ``quiet`` prints nothing."""
    from exfuse.analysis.rendering import check_study
    from exfuse.analysis.texts import check_texts

    console, folders = Console(quiet=quiet), [Path(study) for study in studies]
    for folder in find_studies(folders):
        check_study(folder)
        console.print(f"{folder}: its tables are what its records give.", soft_wrap=True, highlight=False)
    if texts := check_texts(folders):
        console.print(f"{texts} texts: their blocks say what the records give.", highlight=False)
