"""What training can minimise.

Each loss is of (B, C, h, w) scores before softmax and a truth of (B, H, W) uint8 ids, 255 for void. A cross entropy, weighted,
smoothed or focal, is a sum over labelled pixels divided by their number: one step is the same however its batch is shared out.
The others are not such sums. They are taken over the images that a process sees at once, and a step's loss is the mean of its
parts', each weighed by its labelled pixels. In every one a void pixel counts for nothing, and what has no labelled pixel at all
costs nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.limits import BelowOne, NonNegativeFloat, PositiveShare, Share
from exfuse.models.upsample import enlarge
from exfuse.palette import VOID
from exfuse.tasks.optimised import widened

_VECTOR = 16  # floats that a CPU handles at once: its softmax over shorter rows takes several times as long as over maps
_TINY = 1e-6  # below which a power's slope may be infinite

Counts = Sequence[int]  # train's labelled pixels, by class


def segmentation_loss(scores: Tensor, truth: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross entropy averaged over the labelled pixels.

    Args:
        scores: (B, C, h, w) before softmax; upsampled bilinearly to the truth's size where that differs.
        truth: (B, H, W) uint8 ids, 255 for void.
        weight: (C,) by which a pixel of a class counts; of the classes that it shares its label with if that is smoothed.
        smoothing: share of every label that goes to all C classes alike.

    Returns:
        A scalar, float64 of float64 scores and float32 of all others; zero, not a division by zero, if every pixel is void.
    """
    scores, target = _fitted(scores, truth)
    if scores.device.type == "cpu" and scores.stride(1) == 1 and scores.shape[1] >= _VECTOR:
        # Pixels as rows, the same sum: a CPU copies no map into another layout.
        scores, target = scores.permute(0, 2, 3, 1).flatten(0, 2), target.flatten()
    wide = widened(scores)
    weight = None if weight is None else weight.to(wide.dtype)
    total = F.cross_entropy(wide, target, weight, ignore_index=VOID, reduction="sum", label_smoothing=smoothing)
    return total / (target != VOID).sum().clamp(min=1)


class CrossEntropy(nn.Module):
    """See `segmentation_loss`.

    Args:
        counts: see `class_weights`.
        smoothing: label smoothing.
        class_weights: by which formula classes are weighted, see `class_weights`; None for none.
    """

    weight: Tensor | None

    def __init__(
        self, counts: Counts, smoothing: BelowOne = 0.0, class_weights: Literal["enet", "balanced"] | None = None
    ) -> None:
        super().__init__()
        weight = None if class_weights is None else torch.tensor(weigh_classes(counts, class_weights))
        self.register_buffer("weight", weight, persistent=False)  # follows from the data: no part of a checkpoint
        self.smoothing = smoothing

    @property
    def plain(self) -> bool:
        """Whether this is the mean cross entropy as it is."""
        return self.weight is None and not self.smoothing

    def forward(self, scores: Tensor, truth: Tensor) -> Tensor:
        return segmentation_loss(scores, truth, self.weight, self.smoothing)


class Focal(nn.Module):
    """Mean over labelled pixels of ``-(1 - p)^gamma * ln p``, p the softmax of the true class (Lin et al. 2017, equation 4)."""

    def __init__(self, counts: Counts, gamma: NonNegativeFloat = 2.0) -> None:  # noqa: ARG002 - every loss is given them
        super().__init__()
        self.gamma = gamma

    def forward(self, scores: Tensor, truth: Tensor) -> Tensor:
        losses, labelled = _by_pixel(scores, truth)
        unknown = -torch.expm1(-losses)  # 1 - p
        return (unknown.clamp(min=_TINY) ** self.gamma * losses).sum() / labelled.sum().clamp(min=1)


class HardPixels(nn.Module):
    """Mean cross entropy of the hard pixels alone: online hard example mining (Shrivastava et al. 2016) over pixels.

    Args:
        counts: not asked for.
        threshold: a pixel is hard if the softmax of its true class is below this.
        at_least: share of the labelled pixels that is taken however few are hard, the hardest of them.
    """

    def __init__(self, counts: Counts, threshold: Share = 0.7, at_least: PositiveShare = 0.0625) -> None:  # noqa: ARG002
        super().__init__()
        self.bound = -math.log(threshold) if threshold else math.inf
        self.at_least = at_least

    def forward(self, scores: Tensor, truth: Tensor) -> Tensor:
        losses, labelled = _by_pixel(scores, truth)
        losses = losses[labelled]
        if not len(losses):
            return losses.sum()
        fewest = losses.detach().topk(math.ceil(self.at_least * len(losses))).values[-1]
        return losses[losses >= fewest.clamp(max=self.bound)].mean()


class Dice(nn.Module):
    """One minus the Dice coefficient of each class's softmax with its truth, the mean over all classes (Milletari et al. 2016).

    A class that no pixel has costs nothing.

    Args:
        counts: not asked for.
        smooth: added to the fraction's numerator and denominator.
    """

    def __init__(self, counts: Counts, smooth: NonNegativeFloat = 0.0) -> None:  # noqa: ARG002
        super().__init__()
        from segmentation_models_pytorch.losses import DiceLoss  # seconds, for whoever takes it

        self.loss = DiceLoss("multiclass", smooth=smooth, ignore_index=VOID)

    def forward(self, scores: Tensor, truth: Tensor) -> Tensor:
        scores, target = _fitted(scores, truth)
        return self.loss(widened(scores), target)


class Lovasz(nn.Module):
    """Lovász-Softmax: a surrogate of one minus mean IoU over the classes that occur (Berman et al. 2018); in float32."""

    def __init__(self, counts: Counts) -> None:  # noqa: ARG002
        super().__init__()
        from segmentation_models_pytorch.losses import LovaszLoss

        self.loss = LovaszLoss("multiclass", ignore_index=VOID)

    def forward(self, scores: Tensor, truth: Tensor) -> Tensor:
        scores, target = _fitted(scores, truth)
        if not (target != VOID).any():  # of which theirs returns no scalar
            return scores.sum() * 0.0
        return self.loss(scores.float(), target)


class Sum(nn.Module):
    """Losses added up.

    Args:
        counts: for each of them.
        weights: by name; one of weight 0 is not calculated.
        parts: makes each from ``counts``.
    """

    def __init__(
        self, counts: Counts, weights: Mapping[str, NonNegativeFloat], parts: Mapping[str, Callable[[Counts], nn.Module]]
    ) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.parts = nn.ModuleDict({name: parts[name](counts) for name in self.weights})

    def forward(self, scores: Tensor, truth: Tensor) -> Tensor:
        if scores.shape[-2:] != truth.shape[-2:]:
            scores = enlarge(scores, truth.shape[-2:])  # once for all
        return torch.stack([weight * self.parts[name](scores, truth) for name, weight in self.weights.items()]).sum()


def is_plain(loss: nn.Module) -> bool:
    """Whether a loss is the mean cross entropy, by which the health of a training is judged."""
    return isinstance(loss, CrossEntropy) and loss.plain


def weights_of_classes(loss: nn.Module) -> list[float] | None:
    """The class weights that a loss, or one of its parts, counts with; None if it has none."""
    found = (part.weight for part in loss.modules() if isinstance(part, CrossEntropy) and part.weight is not None)
    weight = next(found, None)
    return None if weight is None else weight.tolist()


def weigh_classes(counts: Counts, formula: Literal["enet", "balanced"]) -> list[float]:
    """Weights of classes from how often they are labelled, scaled so that the mean over all labelled pixels is 1.

    Args:
        counts: labelled pixels by class; a class without any has weight 0.
        formula: with p the share of a class in them, ``enet``: 1 / ln(1.02 + p) (Paszke et al. 2016, section 5.2);
            ``balanced``: 1 / p.
    """
    shares = [count / sum(counts) for count in counts]
    weigh = {"enet": lambda share: 1 / math.log(1.02 + share), "balanced": lambda share: 1 / share}[formula]
    raw = [weigh(share) if share else 0.0 for share in shares]
    mean = sum(share * weight for share, weight in zip(shares, raw, strict=True))
    return [weight / mean for weight in raw]


def _fitted(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Scores at the truth's size, and the truth as int64."""
    if scores.shape[-2:] != truth.shape[-2:]:
        scores = enlarge(scores, truth.shape[-2:])
    return scores, truth.long()


def _by_pixel(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of every pixel, (B, H, W), zero for void, and whether it is labelled."""
    scores, target = _fitted(scores, truth)
    return F.cross_entropy(widened(scores), target, ignore_index=VOID, reduction="none"), target != VOID
