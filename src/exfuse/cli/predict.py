"""``exfuse predict``."""

from pathlib import Path

from omegaconf import DictConfig


def main(config: DictConfig) -> None:
    """Label photographs."""
    from exfuse.runs.prediction import predict

    predict(Path(config.run), [Path(str(image)) for image in config.images], Path(config.output), config.device)
