"""``exfuse study``: what can be studied, and what was, as tables and figures."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from exfuse.cli.help import options_of
from exfuse.store.study import find_studies


def list(_: DictConfig) -> None:
    """Print the studies of the config search path."""
    table = Table("study", "question", box=None)
    for name, meaning in options_of("study").items():
        table.add_row(name, meaning)
    Console().print(table)


def tabulate(config: DictConfig) -> None:
    """Render studies from their records."""
    from exfuse.analysis.rendering import render_study

    console = Console(quiet=config.quiet)
    for folder in find_studies([Path(study) for study in config.studies]):
        render_study(folder, console)


def check(config: DictConfig) -> None:
    """Check studies against their records."""
    from exfuse.analysis.rendering import check_study

    console = Console(quiet=config.quiet)
    for folder in find_studies([Path(study) for study in config.studies]):
        check_study(folder)
        console.print(f"{folder}: its tables are what its records give.", soft_wrap=True, markup=False, highlight=False)
