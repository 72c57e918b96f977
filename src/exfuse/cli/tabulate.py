"""Tables and figures of studies from their records:  python -m src.tabulate outputs/studies

Each study folder gets table.md, table.tex, table.csv, table.html and its figures as SVG and PNG.
"""

import argparse
from pathlib import Path

from rich.console import Console

from exfuse.cli import running as cli


def main() -> None:
    """Read the command line, then render or check."""
    parser = argparse.ArgumentParser("python -m src.tabulate", description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="a study's folder, or a folder of studies")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is not what its records give")
    parser.add_argument("--quiet", action="store_true", help="print neither tables nor files")
    arguments = parser.parse_args()

    from exfuse.analysis.rendering import check_study, render_study  # matplotlib loads only once the command line is right
    from exfuse.store.study import find_studies

    console = Console(quiet=arguments.quiet)
    for folder in find_studies(arguments.folders):
        if arguments.check:
            check_study(folder)
            console.print(f"{folder}: its tables are what its records give.", soft_wrap=True, markup=False, highlight=False)
        else:
            render_study(folder, console)


if __name__ == "__main__":
    cli.run(main)
