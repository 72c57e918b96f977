"""Score finished runs again with the present code, after a measure was mended:  python -m src.rescore outputs/runs"""

import argparse
from pathlib import Path

from exfuse.cli import running as cli


def main() -> None:
    """Read the command line and score."""
    parser = argparse.ArgumentParser("python -m src.rescore", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="a run's folder, or a folder of runs")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--workers", type=int, default=2, help="loader processes (2)")
    arguments = parser.parse_args()

    from exfuse.runs.device import choose_device  # torch loads only once the command line is right
    from exfuse.runs.rescoring import rescore

    rescore(arguments.folders, choose_device(arguments.device), arguments.workers)


if __name__ == "__main__":
    cli.run(main)
