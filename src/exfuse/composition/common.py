"""What segmentation and pretraining build alike from a composed config."""

from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig

from exfuse.composition.reading import plain
from exfuse.data.cache.policy import CachePolicy
from exfuse.models.backbone import Backbone


def backbone_factory(config: DictConfig, output_stride: int) -> partial[Backbone]:
    """Makes the chosen encoder from ``rearrange=`` and, where not all are wanted, ``levels=``."""
    return partial(Backbone, name=config.backbone.name, output_stride=output_stride, arguments=plain(config.backbone.arguments))


def cache_policy(config: DictConfig) -> CachePolicy:
    """What becomes of decoded images."""
    return CachePolicy(config.runtime.cache, config.runtime.cache_share, Path(config.paths.cache))


def on_gpu(config: DictConfig) -> bool:
    """Whether the chosen trainer will use CUDA GPUs."""
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
