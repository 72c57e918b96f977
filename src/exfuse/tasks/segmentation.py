"""The LightningModule: losses, optimiser and validation around a segmenter."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from exfuse.data.segmentation import Batch
from exfuse.errors import ConfigError
from exfuse.metrics.iou import iou_per_class, mean_iou, pixel_accuracy
from exfuse.models.segmenter import Prediction, Segmenter
from exfuse.models.upsample import at_size
from exfuse.palette import VOID
from exfuse.tasks.confusion import UNDECIDED, ConfusionMatrix
from exfuse.tasks.losses import CrossEntropy, is_plain, segmentation_loss
from exfuse.tasks.optimised import Learning, OptimisedTask


class SegmentationTask(OptimisedTask):
    """Train and validate one variant.

    Args:
        model: the segmenter.
        classes: names of the classes, as many as the model scores.
        val_images: how many images one whole validation must count, asserted.
        learning, encoder_lr_factor: see `OptimisedTask`.
        loss: of the scores and of every auxiliary output, see `exfuse.tasks.losses`; None for the cross entropy.
    """

    model: Segmenter

    def __init__(
        self,
        model: Segmenter,
        classes: Sequence[str],
        learning: Learning,
        encoder_lr_factor: float,
        val_images: int,
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__(model, learning, encoder_lr_factor, "encoder.backbone")
        self.classes, self.val_images = list(classes), val_images
        self.confusion = ConfusionMatrix(len(self.classes))
        self.loss = loss or CrossEntropy(())
        self.first_gradients: dict[str, float] = {}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        image = batch["image"].contiguous(memory_format=self.memory_format)
        prediction = self.model(image)
        total, losses = training_loss(prediction, batch["mask"], self.model.auxiliary_weights, self.loss)
        if not is_plain(self.loss):  # by which the health of any training is judged
            losses["cross_entropy"] = segmentation_loss(prediction.scores.detach(), batch["mask"])
        self.log("train/loss", total.detach())  # not for the bar: Lightning would ask for its value at every step
        self.log_dict({f"train/loss_{name}": loss.detach() for name, loss in losses.items()})
        return self.share_of_step(total, (batch["mask"] != VOID).sum(), batch["mask"].numel())

    def configure_gradient_clipping(self, optimizer: Optimizer, *arguments: Any, **named: Any) -> None:
        if not self.first_gradients:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            scaled = scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False)  # undone in its step
            self.first_gradients = gradient_norms(self.model, scaler.get_scale() if scaled else 1.0)  # type: ignore[union-attr]
        super().configure_gradient_clipping(optimizer, *arguments, **named)

    def validation_step(self, batch: Batch, _: int) -> None:
        self.confusion.update(predict_ids(self.model, batch["image"], batch["mask"].shape[-2:]), batch["mask"])

    def on_validation_epoch_end(self) -> None:
        counts, images = (state.cpu().numpy() for state in self.confusion.compute())
        self.confusion.reset()  # the sanity check's counts must not leak into the first epoch
        if self.trainer.sanity_checking:
            return
        if self.trainer.limit_val_batches == 1.0 and images != self.val_images:
            raise RuntimeError(f"validation counted {images} images instead of {self.val_images}")
        self.log("val/miou", float(mean_iou(counts)), prog_bar=True)
        self.log("val/pixel_accuracy", float(pixel_accuracy(counts)))
        scores = zip(self.classes, iou_per_class(counts).tolist(), strict=True)
        self.log_dict({f"val/iou/{name}": score for name, score in scores if not math.isnan(score)})  # absent: no curve


def training_loss(
    prediction: Prediction,
    truth: Tensor,
    auxiliary_weights: Mapping[str, float],
    loss: Callable[[Tensor, Tensor], Tensor] = segmentation_loss,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What training minimises, and its parts by name: ``main`` and the auxiliary ones before their weights.

    Args:
        prediction: of the model in training.
        truth: (B, H, W) uint8 ids, 255 for void.
        auxiliary_weights: by name.
        loss: of each output.
    """
    losses = {"main": loss(prediction.scores, truth)}
    total = losses["main"]
    if not isinstance(total, Tensor) or total.ndim:
        given = f"a tensor of shape {tuple(total.shape)}" if isinstance(total, Tensor) else type(total).__name__
        raise ConfigError(f"The loss gave {given} where one number is wanted, a tensor without dimensions. See docs/extend.md.")
    for name, scores in prediction.auxiliary.items():
        losses[name] = loss(scores, truth)
        total = total + auxiliary_weights[name] * losses[name]
    return total, losses


def gradient_norms(model: nn.Module, scale: float) -> dict[str, float]:
    """Euclidean norm of the gradient of each slot of a model, divided by ``scale``; infinite where it is no number."""
    norms = {}
    for name, slot in model.named_children():
        gradients = [weight.grad for weight in slot.parameters() if weight.grad is not None]
        if gradients:
            norm = float(nn.utils.get_total_norm(gradients)) / scale
            norms[name] = norm if math.isfinite(norm) else math.inf
    return norms


def predict_ids(model: Segmenter, image: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Class ids at ``size``: (B, channels, h, w) -> (B, H, W) int64; scores are upsampled bilinearly before the decision.

    See `decided`.
    """
    return decided(at_size(model(image).scores, size))


def decided(scores: Tensor) -> Tensor:
    """Ids of the greatest of scores or probabilities, the first of equal ones: (B, C, H, W) -> (B, H, W) int64.

    `UNDECIDED` where one is no number, which `check_decided` refuses once the ids are in the computer's memory: a GPU is not
    waited for here.
    """
    best = scores.max(1)  # argmax takes three times as long on a CPU
    return best.indices.masked_fill_(best.values.isnan(), UNDECIDED)
