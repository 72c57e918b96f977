"""Mean and spread over seeds of finished runs, or of pretrained backbones:  python -m src.summarise outputs/runs"""

import argparse
from pathlib import Path

from exfuse.cli import running as cli


def main() -> None:
    """Read the command line and summarise."""
    parser = argparse.ArgumentParser("python -m src.summarise", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of runs, or a store of backbones")
    parser.add_argument("--classes", default="", help="names, separated by commas, whose mean IoU is a column of its own")
    parser.add_argument("--csv", type=Path, help="file for the value of each run")
    arguments = parser.parse_args()

    from exfuse.runs.summary import summarise  # loads only once the command line is known to be right

    summarise(arguments.folder, [name for name in arguments.classes.split(",") if name], arguments.csv)


if __name__ == "__main__":
    cli.run(main)
