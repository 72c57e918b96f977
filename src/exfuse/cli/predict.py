"""Label your own photographs:  python -m src.predict outputs/runs/KEY photo.jpg ...

Writes a palette mask NAME.png and an overlay NAME_overlay.png for each.
"""

import argparse
from pathlib import Path

from exfuse.cli import running as cli


def main() -> None:
    """Read the command line and predict."""
    parser = argparse.ArgumentParser("python -m src.predict", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a run's folder, or one of its checkpoints")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="a photograph")
    parser.add_argument("--output", type=Path, default=Path("outputs/predictions"), help="folder (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    arguments = parser.parse_args()

    from exfuse.runs.prediction import predict  # torch loads only once the command line is known to be right

    predict(arguments.checkpoint, arguments.images, arguments.output, arguments.device)


if __name__ == "__main__":
    cli.run(main)
