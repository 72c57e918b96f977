"""What both LightningModules share: rates and decay by parameter, layout, optimiser, schedule, clipping and checkpoints."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from exfuse.errors import ConfigError
from exfuse.models.initialise import is_within
from exfuse.models.modes import modes_of, put_back
from exfuse.tasks.layout import faster_layout, is_worth_measuring

T = TypeVar("T")


def parameter_groups(
    model: nn.Module, lr: float, encoder_lr_factor: float, weight_decay: float, backbone: str
) -> list[dict[str, Any]]:
    """Groups for an optimiser: pretrained or not, times decayed or not.

    Args:
        model: with a backbone somewhere inside, and perhaps a ``pretrained`` that names more, see
            `exfuse.models.segmenter.Segmenter`.
        lr: rate of everything that starts from random weights.
        encoder_lr_factor: the rate of the backbone and of whatever else is pretrained, as a share of ``lr``.
        weight_decay: of weights; norms and biases, the tensors of one dimension, have none, nor what a module names
            ``undecayed`` of its own, such as position embeddings.
        backbone: the name of that submodule.
    """
    taught = {backbone, *getattr(model, "pretrained", ())}
    undecayed = {
        f"{name}.{own}".lstrip(".") for name, module in model.named_modules() for own in getattr(module, "undecayed", ())
    }
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and name not in undecayed
        groups.setdefault((is_within(name, taught), decays), []).append(parameter)
    return [
        {
            "name": f"{'encoder' if pretrained else 'decoder'}{'' if decayed else '_no_decay'}",
            "params": parameters,
            "lr": lr * (encoder_lr_factor if pretrained else 1.0),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (pretrained, decayed), parameters in groups.items()
    ]


def widened(values: Tensor) -> Tensor:
    """Half-precision values in float32, in which sums of them are calculated; others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _called(key: str, taken: str, wanted: type[T], make: Callable[..., T], *given: Any, **named: Any) -> T:
    """What an optimiser's or schedule's option makes.

    Raises:
        ConfigError: naming its key, if it does not take what it is called with, or makes something else.
    """
    try:
        inspect.signature(make).bind(*given, **named)
    except TypeError as error:
        raise ConfigError(f"{key} is called with {taken}, which does not do: {error}. See docs/extend.md.") from error
    try:
        made = make(*given, **named)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key} cannot be made of {taken}: {error}. See docs/extend.md.") from error
    if isinstance(made, ReduceLROnPlateau):
        raise ConfigError(f"{key} waits for a score, and a schedule here is a rate for every step. See docs/extend.md.")
    if not isinstance(made, wanted):
        raise ConfigError(f"{key} made {made!r:.80}, expected a torch {wanted.__name__}. See docs/extend.md.")
    return made


# What both LightningModules share: the model's layout, optimiser, schedule and clipping, and what their checkpoints say.


class Learning(NamedTuple):
    """How weights are learned.

    Attributes:
        optimizer: makes the optimiser from parameter groups.
        schedule: makes the per-step schedule from the optimiser and ``steps=``.
        lr, weight_decay: see `parameter_groups`.
        description: plain data that travel in every checkpoint (the run's config).
        channels_last: memory layout of images and weights; ``auto`` is the faster one, see `exfuse.tasks.layout`.
    """

    optimizer: Callable[..., Optimizer]
    schedule: Callable[..., LRScheduler]
    lr: float
    weight_decay: float
    description: dict[str, Any]
    channels_last: bool | Literal["auto"] = True


class OptimisedTask(pl.LightningModule):
    """A model with its optimiser; a subclass says what is learned and how that is validated.

    Args:
        model: is trained.
        learning: how.
        encoder_lr_factor, backbone: see `parameter_groups`.
    """

    def __init__(self, model: nn.Module, learning: Learning, encoder_lr_factor: float, backbone: str) -> None:
        super().__init__()
        self.optimizer_factory, self.schedule_factory, self.lr, self.weight_decay, description, channels_last = learning
        self.model, self.description = model, dict(description)
        self.encoder_lr_factor, self.backbone = encoder_lr_factor, backbone
        self.open_layout = channels_last == "auto"
        self.use_layout(bool(channels_last))
        self._parts, self._possible = 1, 1
        self._counted: Tensor | None = None
        self._format = torch.float32

    def build_optimizer(self) -> Optimizer:
        """The recipe's optimiser over the model's parameters, without a schedule."""
        key = "recipe.optimizer"
        groups = parameter_groups(self.model, self.lr, self.encoder_lr_factor, self.weight_decay, self.backbone)
        given = {id(one): one.requires_grad for group in groups for one in group["params"]}
        made = _called(key, "parameter groups and lr=", Optimizer, self.optimizer_factory, groups, lr=self.lr)
        learnt = {id(one) for group in made.param_groups for one in group["params"]}
        if learnt - given.keys() or any(learns and one not in learnt for one, learns in given.items()):
            raise ConfigError(f"{key} made one that learns others than the parameters that it was given. See docs/extend.md.")
        return made

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.build_optimizer()
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = _called(
            "recipe.schedule", "the optimiser and steps=", LRScheduler, self.schedule_factory, optimizer, steps=steps
        )
        if getattr(schedule, "optimizer", optimizer) is not optimizer:
            raise ConfigError("recipe.schedule made one of another optimiser than it was given. See docs/extend.md.")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def use_layout(self, channels_last: bool) -> None:
        """Put weights, and from now on images, into this layout, and say so in checkpoints."""
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.description["channels_last"] = channels_last

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.open_layout and is_worth_measuring(self, self.trainer.strategy.root_device):
            self.use_layout(faster_layout(self))

    def on_validation_model_eval(self) -> None:
        self._modes = modes_of(self)
        super().on_validation_model_eval()

    def on_validation_model_train(self) -> None:
        """Lightning sets flags alone, of which a module that does something of its own in ``train()`` learns nothing."""
        put_back(self._modes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.use_layout(checkpoint["description"]["channels_last"])  # a resumed run keeps the one that it began in

    def on_fit_start(self) -> None:
        self._parts = self.trainer.world_size * self.trainer.accumulate_grad_batches

    def share_of_step(self, mean: Tensor, counted: Tensor, possible: int) -> Tensor:
        """What to return of a loss that is the mean over ``counted`` of ``possible`` pixels of one part of a batch.

        A step's loss is the mean over what is counted in its whole batch, however that is divided into processes and
        accumulated parts. How much that is, is known after the last part alone: until then a part's sum stands over its
        possible pixels, of which all parts have as many, and `on_before_optimizer_step` sets the gradients right.
        """
        if self._parts == 1:
            return mean
        self._counted = counted if self._counted is None else self._counted + counted
        self._possible, self._format = possible, mean.dtype
        return mean * (counted.to(mean.dtype) / possible)

    @torch.no_grad()
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Gradients are means over the parts here, Lightning's and DDP's, and not yet clipped."""
        if self._counted is None:
            return
        counted, self._counted = self.trainer.strategy.reduce(self._counted, reduce_op="sum"), None
        factor = self._parts * self._possible / counted.clamp(min=1).to(self._format)  # type: ignore[union-attr]
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.grad *= factor

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as Lightning does, with a fused optimiser in mixed precision too, which Lightning refuses.

        A fused optimiser undoes float16's scaling of the loss inside its step, unless that was done before, as here. In
        bfloat16 there is no such scaling.
        """
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and gradient_clip_val:
            if plugin.scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
                plugin.scaler.unscale_(optimizer)
            algorithm = gradient_clip_algorithm or self.trainer.gradient_clip_algorithm or "norm"
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)  # type: ignore[arg-type]
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["description"] = self.description
