"""Confusion counts over a whole data set."""

import torch
from torch import Tensor
from torchmetrics import Metric

from exfuse.errors import NotFiniteError
from exfuse.palette import VOID

UNDECIDED = VOID  # id of a pixel whose scores are no numbers
_HISTOGRAMS = 4  # counted side by side; more gain nothing


def check_decided(ids: Tensor) -> None:
    """Refuse predicted ids of which one is `UNDECIDED`.

    Raises:
        NotFiniteError: saying what it means.
    """
    if (ids == UNDECIDED).any():
        raise NotFiniteError(
            "The network's scores are no numbers, of which any class would be as good: its weights ran away, or a module of it "
            "makes none in evaluation mode."
        )


def confusion_counts(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Count (true, predicted) pairs of ids, void left out.

    Args:
        predicted: ids in 0..C-1, any integer dtype and shape of one or more dimensions.
        truth: ids in 0..C-1 or 255 for void, same shape.
        classes: number of classes C.

    Returns:
        (C, C) int64, row = true class, column = predicted class.
    """
    # Void counts as one more true class, whose row is then dropped: selecting the other pixels first takes ten times as long
    # as counting them. Neighbouring columns count in histograms of their own: most neighbours are the same pair, and adding
    # one to the same number again has to wait for the addition before.
    bins = (classes + 1) * classes
    histogram = bins * (torch.arange(truth.shape[-1], dtype=torch.int32, device=truth.device) % _HISTOGRAMS)
    pairs = torch.add(predicted.to(torch.int32), truth.clamp(max=classes), alpha=classes) + histogram
    counts = torch.bincount(pairs.flatten(), minlength=_HISTOGRAMS * bins).view(_HISTOGRAMS, bins).sum(0)
    return counts[: classes**2].reshape(classes, classes)


def plain_confusion_counts(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """`confusion_counts` as it is defined: take the labelled pixels, count their pairs. The reference for tests and timings."""
    known = truth != VOID
    pairs = truth[known].long() * classes + predicted[known].long()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


class ConfusionMatrix(Metric):
    """int64 confusion counts summed over every image and process, and the number of images that went in.

    IoU is computed from the sum, once: the mean of per-image or per-batch IoU is another number.

    Example:
        >>> metric = ConfusionMatrix(2)
        >>> metric.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 0]]))
        >>> metric.compute()
        (tensor([[1, 1],
                [0, 1]]), tensor(1))
    """

    full_state_update = False
    counts: Tensor
    images: Tensor
    undecided: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("counts", torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("undecided", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add a batch: ids (B, H, W) in 0..C-1 or `UNDECIDED`, and truth (B, H, W) with 255 for void."""
        undecided = predicted == UNDECIDED
        self.undecided += undecided.sum()
        self.counts += confusion_counts(predicted.masked_fill(undecided, 0), truth, self.classes)
        self.images += len(truth)

    def compute(self) -> tuple[Tensor, Tensor]:
        """The counts (C, C) int64 and the number of images, over all processes.

        Raises:
            NotFiniteError: if a pixel was undecided, see `check_decided`.
        """
        check_decided(torch.where(self.undecided > 0, UNDECIDED, 0))
        return self.counts, self.images
