"""The LightningModule of backbone pretraining: the head's loss and SS's, weighted."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from exfuse.data.classification import LabelledBatch
from exfuse.errors import ConfigError
from exfuse.models.classifier import Classifier, ClassifierScores
from exfuse.randomness import derive_seed
from exfuse.tasks.optimised import Learning, OptimisedTask, widened

Mixing = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


class ClassificationTask(OptimisedTask):
    """Train and validate a classifier; ``total = loss(head) + sum over branches of weight * loss(branch)``.

    Args:
        model: the classifier.
        classes: names of the classes.
        learning: how; all parts at one rate.
        branch_weights: of each branch's loss, by name; the paper's are unknown.
        smoothing: label smoothing of every loss.
        mixing: mixup and CutMix of a batch from a seed, with the smoothing in its targets; None for none.
        seed: of the mixing.
    """

    model: Classifier

    def __init__(
        self,
        model: Classifier,
        classes: Sequence[str],
        learning: Learning,
        branch_weights: Mapping[str, float],
        smoothing: float,
        mixing: Mixing | None,
        seed: int,
    ) -> None:
        super().__init__(model, learning, 1.0, "backbone")
        self.branch_weights, self.smoothing, self.mixing, self.seed = dict(branch_weights), smoothing, mixing, seed
        branches = tuple(f"res{level}" for level in model.backbone.levels) if model.branches is not None else ()
        if branches and {*branches} != {*self.branch_weights}:
            there = ", ".join(self.branch_weights)
            raise ConfigError(f"pretraining.branches.weights: {there}: expected one for each of {', '.join(branches)}.")
        self.scored = ("main", *branches)
        self.accuracies = nn.ModuleList(MulticlassAccuracy(len(classes), average="micro") for _ in self.scored)

    def training_step(self, batch: LabelledBatch, _: int) -> Tensor:
        image, target = batch["image"], batch["label"]
        if self.mixing is not None:
            seed = derive_seed(self.seed, "mixing", self.current_epoch, self.global_step, self.global_rank)
            image, target = self.mixing(image, target, seed)
        scores = self.model(image.contiguous(memory_format=self.memory_format))
        losses = classification_losses(scores, target, 0.0 if self.mixing is not None else self.smoothing)
        total = losses["main"]
        for name in scores.branches:
            total = total + self.branch_weights[name] * losses[name]
        self.log("train/loss", total.detach())  # not for the bar: Lightning would ask for its value at every step
        self.log_dict({f"train/loss_{name}": loss.detach() for name, loss in losses.items()})
        return total

    def validation_step(self, batch: LabelledBatch, _: int) -> None:
        scores = self.model(batch["image"].contiguous(memory_format=self.memory_format))
        for values, metric in zip((scores.main, *scores.branches.values()), self._metrics(), strict=True):
            metric.update(values, batch["label"])

    def on_validation_epoch_end(self) -> None:
        values = {
            f"val/accuracy_{name}": float(metric.compute()) for name, metric in zip(self.scored, self._metrics(), strict=True)
        }
        for metric in self._metrics():
            metric.reset()  # the sanity check's counts must not leak into the first epoch
        if not self.trainer.sanity_checking:
            self.log_dict(values)
            self.log("val/accuracy", values["val/accuracy_main"], prog_bar=True)

    def _metrics(self) -> list[Metric]:
        return [metric for metric in self.accuracies if isinstance(metric, Metric)]


def classification_losses(scores: ClassifierScores, target: Tensor, smoothing: float) -> dict[str, Tensor]:
    """Cross entropy of the head, ``main``, and of each branch.

    Args:
        scores: (B, C) each, before softmax.
        target: (B,) int64 ids or (B, C) float32 shares of a mixed batch.
        smoothing: label smoothing.
    """
    named = {"main": scores.main, **scores.branches}
    return {name: F.cross_entropy(widened(values), target, label_smoothing=smoothing) for name, values in named.items()}
