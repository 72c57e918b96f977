"""What segmentation and pretraining build alike from a composed config."""

from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from src.models.backbone import Backbone


def backbone_factory(config: DictConfig, output_stride: int) -> partial[Backbone]:
    """Makes the chosen encoder from ``rearrange=`` and, where not all are wanted, ``levels=``."""
    return partial(Backbone, name=config.backbone.name, output_stride=output_stride, arguments=plain(config.backbone.arguments))


def plain(config: DictConfig) -> dict[str, Any]:
    """A config as plain containers, resolved."""
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def set_precision(config: DictConfig) -> None:
    """Replace ``trainer.precision: auto`` by what the device does best, before the run's key is taken."""
    if config.trainer.precision == "auto":
        config.trainer.precision = "bf16-mixed" if on_gpu(config) and torch.cuda.is_bf16_supported() else "32-true"


def on_gpu(config: DictConfig) -> bool:
    """Whether the chosen trainer will use CUDA GPUs."""
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
