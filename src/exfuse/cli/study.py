"""``exfuse study``: what can be studied, and what was, as tables and figures."""

from pathlib import Path

from exfuse.cli.help import options_of
from exfuse.store.study import find_studies
from exfuse.terminal import Console, Table


def list_all() -> None:
    """Print the studies of the config search path."""
    table = Table("study", "question", box=None)
    for name, meaning in options_of("study").items():
        table.add_row(name, meaning)
    Console().print(table)


def tabulate(studies: list[str], quiet: bool) -> None:
    """Render studies in these folders from their records; ``quiet`` prints nothing."""
    from exfuse.analysis.rendering import render_study
    from exfuse.analysis.texts import write_texts

    console, folders = Console(quiet=quiet), [Path(study) for study in studies]
    for folder in find_studies(folders):
        render_study(folder, console)
    for path in write_texts(folders):
        console.print(f"{path}: blocks written anew.", soft_wrap=True, markup=False, highlight=False)


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
