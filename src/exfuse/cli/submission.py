"""``exfuse submission``: VOC's test server."""

from omegaconf import DictConfig


def make(config: DictConfig) -> None:
    """Predict the test images into an archive."""
    from exfuse.runs.submission import make_submission

    make_submission(config)


def check(config: DictConfig) -> None:
    """Check an archive."""
    from exfuse.runs.submission import check_submission

    check_submission(config)
