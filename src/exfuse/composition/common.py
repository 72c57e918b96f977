"""What segmentation and pretraining build alike from a description."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from hydra.utils import get_object

from exfuse.config.read import check_backbone, own_backbone
from exfuse.data.cache import CachePolicy
from exfuse.models.backbone import Backbone
from exfuse.models.own_backbone import OwnBackbone
from exfuse.store.description import Described


def backbone_factory(described: Described, output_stride: int) -> Callable[..., Backbone]:
    """Makes the chosen encoder from ``rearrange=`` and, where not all are wanted, ``levels=``."""
    backbone, option = described.backbone, described.choices.get("backbone")
    arguments = check_backbone(backbone.arguments, option, backbone.name)
    target = own_backbone(option, backbone.name)
    make: Callable[..., Backbone] = partial(OwnBackbone, get_object(target)) if target else Backbone
    return partial(make, name=backbone.name, output_stride=output_stride, arguments=arguments)


def normalisation(described: Described) -> dict[str, Any]:
    """How images are scaled: ``mean`` and ``std``, known once the weights are."""
    assert described.backbone.normalisation is not None
    return msgspec.structs.asdict(described.backbone.normalisation)


def cache_policy(described: Described) -> CachePolicy:
    """What becomes of decoded images."""
    return CachePolicy(described.runtime.cache, described.runtime.cache_share, Path(described.paths.cache))


def on_gpu(described: Described) -> bool:
    """Whether the chosen trainer will use CUDA GPUs."""
    return described.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
