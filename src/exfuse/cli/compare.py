"""Compare finished runs on the same images:  python -m src.compare outputs/runs

Prints their scores per class side by side and draws the same images with each run's prediction.
"""

import argparse
from pathlib import Path

from exfuse.cli import running as cli


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser("python -m src.compare", description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="a run's folder, or a folder of runs")
    parser.add_argument("--picture", type=Path, help="where to draw (default: comparison.png in the first FOLDER)")
    parser.add_argument("--images", type=int, default=5, help="how many images to draw (default: %(default)s)")
    arguments = parser.parse_args()

    from exfuse.runs.comparison import compare  # torch loads only once the command line is known to be right

    picture = arguments.picture or arguments.folders[0] / "comparison.png"
    compare(arguments.folders, picture, arguments.images)


if __name__ == "__main__":
    cli.run(main)
