"""Densely adjacent prediction (DAP), ExFuse section 3.2: every position also predicts its neighbours' classes.

Each option is the model's head. It says how many channels the decoder must have (``decoder_channels``), turns the
decoder's last map into scores (``forward``), and turns an earlier map of that width into scores without parameters of its own
(``auxiliary``, for ECRE's loss).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.limits import Odd


class PlainPrediction(nn.Module):
    """The baseline: the decoder's channels are the class scores. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.decoder_channels = classes

    def forward(self, scores: Tensor) -> Tensor:
        return scores

    def auxiliary(self, scores: Tensor) -> Tensor:
        return scores


class AdjacentPrediction(nn.Module):
    """Average, for each position, what the k x k positions around it predict for it.

    ``r[i, j] = 1/k^2 * sum over 0 <= l, m < k of group (l*k + m) at (i + l - k//2, j + m - k//2)``.

    Args:
        classes: number of classes C.
        window: odd side k of the neighbourhood; the paper uses 3.

    Shapes:
        input (B, k*k*C, H, W) scores, group ``l * k + m`` holding the C scores for the neighbour at offset (l, m);
        output (B, C, H, W). Positions outside the map predict nothing and count as zero.

    Raises:
        ValueError: if ``window`` is even: such a window has no centre.

    Example:
        Behind any network that makes as many channels as ``decoder_channels`` says:

        >>> head = AdjacentPrediction(classes=21)
        >>> network = nn.Sequential(nn.Conv2d(3, head.decoder_channels, 3, padding=1), head)
        >>> network(torch.randn(2, 3, 32, 48)).shape
        torch.Size([2, 21, 32, 48])
    """

    def __init__(self, classes: int, window: Odd = 3) -> None:
        super().__init__()
        if window % 2 == 0:
            raise ValueError(f"DAP needs an odd window, got {window}")
        self.classes, self.window = classes, window
        self.decoder_channels = classes * window**2

    def forward(self, scores: Tensor) -> Tensor:
        k = self.window
        groups = scores.unflatten(1, (k * k, self.classes))  # (B, k*k, C, H, W)
        padded = F.pad(groups, (k // 2,) * 4)
        height, width = scores.shape[-2:]
        # half-precision scores are summed in float32 and rounded once
        total = torch.zeros_like(groups[:, 0], dtype=torch.promote_types(scores.dtype, torch.float32))
        for row in range(k):
            for col in range(k):
                total = total + padded[:, row * k + col, :, row : row + height, col : col + width]
        return (total / k**2).to(scores.dtype)

    def auxiliary(self, scores: Tensor) -> Tensor:
        return self(scores)


class LastBlockPrediction(PlainPrediction):
    """DAP with a decoder as narrow as the baseline's: one 3x3 convolution after it makes the k*k*C scores (chosen).

    Starts as the identity (chosen): each position's scores stand in the group that it predicts for itself with, k*k-fold, since
    the mean divides by k*k. What it predicts for its neighbours starts at zero.

    Shapes:
        input (B, C, H, W); output (B, C, H, W).

    Example:
        >>> LastBlockPrediction(classes=21)(torch.randn(2, 21, 32, 48)).shape  # behind any network's scores
        torch.Size([2, 21, 32, 48])
    """

    def __init__(self, classes: int, window: Odd = 3) -> None:
        super().__init__(classes)
        self.adjacent = AdjacentPrediction(classes, window)
        self.widen = nn.Conv2d(classes, self.adjacent.decoder_channels, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        assert self.widen.bias is not None
        nn.init.zeros_(self.widen.weight)
        nn.init.zeros_(self.widen.bias)
        groups = self.adjacent.window**2
        own = self.widen.weight.data.unflatten(0, (groups, self.decoder_channels))[groups // 2]  # (C, C, 3, 3)
        nn.init.dirac_(own)
        own *= groups

    def forward(self, scores: Tensor) -> Tensor:
        return self.adjacent(self.widen(scores))


class WideControl(AdjacentPrediction):
    """Control for DAP: the same widened decoder, its k*k groups averaged at their own position, without any shift.

    It has DAP's parameters and costs and differs in the neighbours alone. (Pixel shuffle followed by average pooling, which
    some public code calls DAP, is this.)

    Shapes:
        input (B, k*k*C, H, W); output (B, C, H, W).
    """

    def forward(self, scores: Tensor) -> Tensor:
        return scores.unflatten(1, (self.window**2, self.classes)).mean(1)
