"""``exfuse study``: what can be studied, and what was, as tables and figures."""

from pathlib import Path

from rich.table import Table

from exfuse.cli.help import options_of
from exfuse.store.study import find_studies
from exfuse.terminal import Console


def list_all() -> None:
    """Print the studies of the config search path."""
    table = Table("study", "question", box=None)
    for name, meaning in options_of("study").items():
        table.add_row(name, meaning)
    Console().print(table)


def tabulate(studies: list[str], quiet: bool) -> None:
    """Render studies in these folders from their records; ``quiet`` prints nothing."""
    from exfuse.analysis.rendering import render_study

    console = Console(quiet=quiet)
    for folder in find_studies([Path(study) for study in studies]):
        render_study(folder, console)


def check(studies: list[str], quiet: bool) -> None:
    """Check studies in these folders against their records; ``quiet`` prints nothing."""
    from exfuse.analysis.rendering import check_study

    console = Console(quiet=quiet)
    for folder in find_studies([Path(study) for study in studies]):
        check_study(folder)
        console.print(f"{folder}: its tables are what its records give.", soft_wrap=True, highlight=False)
