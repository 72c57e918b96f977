"""``exfuse compare``."""

from pathlib import Path

from omegaconf import DictConfig


def main(config: DictConfig) -> None:
    """Compare runs."""
    from exfuse.runs.comparison import compare

    folders = [Path(run) for run in config.runs]
    compare(folders, Path(config.picture or folders[0] / "comparison.png"), config.images)
