"""What segmentation and pretraining build alike from a description."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from hydra.utils import get_object

from exfuse.config.backbones import check_backbone, own_backbone
from exfuse.config.options import build
from exfuse.data.cache import CachePolicy
from exfuse.data.loading import Loading
from exfuse.errors import ConfigError
from exfuse.models.backbone import Backbone
from exfuse.models.own_backbone import OwnBackbone
from exfuse.store.description import Described, PretrainingRecipe, Recipe, to_plain
from exfuse.tasks.optimised import Learning


def backbone_factory(described: Described, output_stride: int, inputs: int = 3) -> Callable[..., Backbone]:
    """Makes the chosen encoder of ``inputs`` channels from ``rearrange=`` and, where not all are wanted, ``levels=``."""
    backbone, option = described.backbone, described.choices.get("backbone")
    arguments = check_backbone(backbone.arguments, option, backbone.name)
    target = own_backbone(option, backbone.name)
    make: Callable[..., Backbone] = partial(OwnBackbone, get_object(target)) if target else Backbone
    return partial(make, name=backbone.name, output_stride=output_stride, arguments=arguments, inputs=inputs)


def normalisation(described: Described, channels: int = 3) -> dict[str, Any]:
    """How images of so many channels are scaled: ``mean`` and ``std``, known once the weights are.

    Raises:
        ConfigError: if these are of another number of channels.
    """
    assert described.backbone.normalisation is not None
    found = msgspec.structs.asdict(described.backbone.normalisation)
    if {len(values) for values in found.values()} != {channels}:
        raise ConfigError(
            f"backbone.normalisation: expected a mean and an std for each of {channels} channels, got "
            f"{' and '.join(str(len(values)) for values in found.values())}."
        )
    return found


def loading(described: Described, batch_size: int, seed: int) -> Loading:
    """How samples become batches."""
    runtime = described.runtime
    cache = CachePolicy(runtime.cache, runtime.cache_share, Path(described.paths.cache))
    return Loading(batch_size, described.trainer.accumulate_grad_batches, runtime.workers, seed, cache, runtime.prefetch)


def learning(described: Described, recipe: Recipe | PretrainingRecipe, classes: Sequence[str], **more: Any) -> Learning:
    """How weights are learned; ``more`` travels in every checkpoint beside the description and the names of the classes."""
    return Learning(
        build("optimizer", recipe.optimizer),
        build("schedule", recipe.schedule),
        recipe.lr,
        recipe.weight_decay,
        {"config": to_plain(described), "classes": list(classes)} | more,
        described.runtime.channels_last,
    )


def on_gpu(described: Described) -> bool:
    """Whether the chosen trainer will use CUDA GPUs."""
    return described.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
