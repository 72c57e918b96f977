"""``exfuse evaluate``."""

from omegaconf import DictConfig

from exfuse.config.overrides import running_settings


def main(config: DictConfig) -> None:
    """Score a checkpoint."""
    from exfuse.runs.evaluation import Evaluation, evaluate

    evaluate(running_settings(config, Evaluation))
