"""``exfuse data``: data sets fetched and checked."""

from omegaconf import DictConfig

from exfuse.data_setup import preparing


def prepare(config: DictConfig) -> None:
    """Fetch what is missing of a data set and check it all."""
    preparing.prepare(config)


def check(config: DictConfig) -> None:
    """Check a data set."""
    preparing.check(config)
