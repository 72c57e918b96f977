"""``exfuse submission``: VOC's test server."""

from omegaconf import DictConfig

from exfuse.config.overrides import running_settings


def make(config: DictConfig) -> None:
    """Predict the test images into an archive."""
    from exfuse.runs.submission import Submission, make_submission

    make_submission(running_settings(config, Submission))


def check(config: DictConfig) -> None:
    """Check an archive."""
    from exfuse.runs.submission import Check, check_submission

    check_submission(running_settings(config, Check))
