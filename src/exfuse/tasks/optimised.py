"""Which parameters learn at which rate and decay."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


def parameter_groups(
    model: nn.Module, lr: float, encoder_lr_factor: float, weight_decay: float, backbone: str
) -> list[dict[str, Any]]:
    """Groups for an optimiser: backbone or not, times decayed or not.

    Args:
        model: with a backbone somewhere inside.
        lr: rate of everything that starts from random weights.
        encoder_lr_factor: the backbone's rate as a share of ``lr``.
        weight_decay: of weights; norms and biases, the tensors of one dimension, have none.
        backbone: the name of that submodule.
    """
    inside = {id(parameter) for parameter in model.get_submodule(backbone).parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault((id(parameter) in inside, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "name": f"{'encoder' if in_backbone else 'decoder'}{'' if decayed else '_no_decay'}",
            "params": parameters,
            "lr": lr * (encoder_lr_factor if in_backbone else 1.0),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]


# What both LightningModules share: the model's layout, optimiser, schedule and clipping, and what their checkpoints say.


class OptimisedTask(pl.LightningModule):
    """A model with its optimiser; a subclass says what is learned and how that is validated.

    Args:
        model: is trained.
        optimizer: makes the optimiser from parameter groups.
        schedule: makes the per-step schedule from the optimiser and ``steps=``.
        lr, encoder_lr_factor, weight_decay, backbone: see `parameter_groups`.
        description: plain data that travel in every checkpoint (the run's config).
        channels_last: memory layout of images and weights.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., LRScheduler],
        lr: float,
        encoder_lr_factor: float,
        weight_decay: float,
        backbone: str,
        description: dict[str, Any],
        channels_last: bool,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.optimizer_factory, self.schedule_factory = optimizer, schedule
        self.lr, self.encoder_lr_factor, self.weight_decay, self.backbone = lr, encoder_lr_factor, weight_decay, backbone
        self.description = description

    def build_optimizer(self) -> Optimizer:
        """The recipe's optimiser over the model's parameters, without a schedule."""
        groups = parameter_groups(self.model, self.lr, self.encoder_lr_factor, self.weight_decay, self.backbone)
        return self.optimizer_factory(groups, lr=self.lr)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.build_optimizer()
        schedule = self.schedule_factory(optimizer, steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as Lightning does, with a fused optimiser in bfloat16 too.

        Lightning refuses every fused optimiser in mixed precision, since its step undoes the scaling of the loss. Only float16
        has such a scaling: in bfloat16 gradients are what they seem before the step.
        """
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None and gradient_clip_val:
            algorithm = gradient_clip_algorithm or self.trainer.gradient_clip_algorithm or "norm"
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)  # type: ignore[arg-type]
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["description"] = self.description
