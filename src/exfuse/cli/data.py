"""``exfuse data``: data sets fetched and checked."""

import msgspec
from omegaconf import DictConfig

from exfuse.config.overrides import running_settings
from exfuse.data_setup import preparing
from exfuse.errors import UsageError
from exfuse.store.description import Option, Paths


class _AnyData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What conf/data_check.yaml asks for where it names no published data set."""

    paths: Paths
    data: Option


def prepare(config: DictConfig) -> None:
    """Fetch what is missing of a data set and check it all."""
    if "source" not in config:
        raise UsageError("source is not set: which SET? Usage: exfuse data prepare SET [key=value ...]")
    preparing.prepare(config)


def check(config: DictConfig) -> None:
    """Check a data set."""
    if "source" in config:
        preparing.check(config)
    else:
        preparing.check_data(running_settings(config, _AnyData).data)
