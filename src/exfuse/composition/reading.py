"""What a config says of data and techniques, read without torch: enough to know a run's key in milliseconds."""

from dataclasses import replace
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from exfuse.data.labelled import LabelledSplit
from exfuse.data.split import Split


def plain(config: DictConfig) -> dict[str, Any]:
    """A config as plain containers, resolved."""
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def describe_run(config: DictConfig) -> dict[str, Any]:
    """The config that a run's record keeps: without the sweep and study that asked for it, of which there may be several."""
    return {name: part for name, part in plain(config).items() if name not in ("study", "sweep")}


def is_supervised(config: DictConfig) -> bool:
    """Whether the chosen option of SS wants a backbone that was pretrained with branches."""
    return bool(config.technique.ss.supervised)


def read_split(config: DictConfig, split: str) -> Split:
    """Read ``train`` or ``val`` of the chosen data set."""
    return instantiate(config.data[split], _convert_="all")


def read_labelled_split(config: DictConfig, split: str) -> LabelledSplit:
    """``train`` or ``val`` of the pretraining's data; cheap until somebody asks for its items."""
    labelled: LabelledSplit = instantiate(config.pretraining.data[split], _convert_="all")
    return replace(labelled, limit=config.debug.images)
