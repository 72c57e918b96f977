"""``exfuse evaluate``."""

from omegaconf import DictConfig


def main(config: DictConfig) -> None:
    """Score a checkpoint."""
    from exfuse.runs.evaluation import evaluate

    evaluate(config)
