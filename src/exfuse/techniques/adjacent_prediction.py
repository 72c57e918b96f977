"""Densely adjacent prediction (DAP), ExFuse section 3.2: every position also predicts its neighbours' classes.

Each option is the model's head. It says how many channels the decoder must have (``decoder_channels``), turns the
decoder's last map into scores (``forward``), and turns an earlier map of that width into scores without parameters of its own
(``auxiliary``, for ECRE's loss). ``finish`` is ``forward`` after the decoder's last step, for training: a linear head composes
itself there with the linear layers before it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.fusing.composed import convolve_twice
from exfuse.fusing.shifted_mean import ShiftedMean
from exfuse.models.decoder import LastStep

_WIDEST_COMPOSED = 3  # exfuse.fusing.composed knows second layers of 3x3


class PlainPrediction(nn.Module):
    """The baseline: the decoder's channels are the class scores. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.decoder_channels = classes

    def forward(self, scores: Tensor) -> Tensor:
        return scores

    def finish(self, last: LastStep) -> Tensor:
        return last.maps()

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
    """

    readout: Tensor

    def __init__(self, classes: int, window: int = 3) -> None:
        super().__init__()
        if window % 2 == 0:
            raise ValueError(f"DAP needs an odd window, got {window}")
        self.classes, self.window = classes, window
        self.decoder_channels = classes * window**2
        self.register_buffer("readout", shifts_as_kernel(classes, window), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        if torch.is_grad_enabled() and scores.requires_grad:
            return ShiftedMean.apply(scores, self.classes, self.window)
        return shifted_mean(scores, self.classes, self.window)

    def finish(self, last: LastStep) -> Tensor:
        if self.window > _WIDEST_COMPOSED:
            return self(last.maps())
        return last.read_by(self.readout, 1 / self.window**2)

    def auxiliary(self, scores: Tensor) -> Tensor:
        return self(scores)


def shifted_mean(scores: Tensor, classes: int, window: int) -> Tensor:
    """The formula of `AdjacentPrediction` as padding and slices: (B, k*k*C, H, W) -> (B, C, H, W)."""
    k = window
    groups = scores.unflatten(1, (k * k, classes))  # (B, k*k, C, H, W)
    padded = F.pad(groups, (k // 2,) * 4)
    height, width = scores.shape[-2:]
    total = torch.zeros_like(groups[:, 0])
    for row in range(k):
        for col in range(k):
            total = total + padded[:, row * k + col, :, row : row + height, col : col + width]
    return total / k**2


def shifts_as_kernel(classes: int, window: int) -> Tensor:
    """The sum in DAP as a convolution, (C, k*k*C, k', k') with k' = max(k, 3): ones at ``[c, (l*k + m)*C + c, l, m]``."""
    side = max(window, _WIDEST_COMPOSED)
    kernel = torch.zeros(classes, window, window, classes, side, side)
    for row in range(window):
        for col in range(window):
            kernel[:, row, col, :, row + (side - window) // 2, col + (side - window) // 2] = torch.eye(classes)
    return kernel.flatten(1, 3)


class LastBlockPrediction(nn.Module):
    """DAP with a decoder as narrow as the baseline's: one 3x3 convolution after it makes the k*k*C scores (chosen).

    Shapes:
        input (B, C, H, W); output (B, C, H, W).
    """

    def __init__(self, classes: int, window: int = 3) -> None:
        super().__init__()
        self.decoder_channels = classes
        self.adjacent = AdjacentPrediction(classes, window)
        self.widen = nn.Conv2d(classes, self.adjacent.decoder_channels, 3, padding=1)

    def reset_parameters(self) -> None:
        nn.init.dirac_(self.widen.weight, groups=self.adjacent.window**2)  # every group starts as a copy of the scores
        assert self.widen.bias is not None
        nn.init.zeros_(self.widen.bias)

    def forward(self, scores: Tensor) -> Tensor:
        return self.adjacent(self.widen(scores))

    def finish(self, last: LastStep) -> Tensor:
        if self.adjacent.window > _WIDEST_COMPOSED:
            return self(last.maps())
        assert self.widen.bias is not None
        share = 1 / self.adjacent.window**2
        return convolve_twice(last.maps(), self.widen.weight * share, self.widen.bias * share, self.adjacent.readout)

    def auxiliary(self, scores: Tensor) -> Tensor:
        return scores


class WideControl(nn.Module):
    """Control for DAP: the same widened decoder, its k*k groups averaged at their own position, without any shift.

    It has DAP's parameters and costs and differs in the neighbours alone. (Pixel shuffle followed by average pooling, which
    some public code calls DAP, is this.)

    Shapes:
        input (B, k*k*C, H, W); output (B, C, H, W).
    """

    readout: Tensor

    def __init__(self, classes: int, window: int = 3) -> None:
        super().__init__()
        self.groups, self.classes = window**2, classes
        self.decoder_channels = classes * window**2
        self.register_buffer("readout", shifts_as_kernel(classes, 1).repeat(1, self.groups, 1, 1), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        return scores.unflatten(1, (self.groups, self.classes)).mean(1)

    def finish(self, last: LastStep) -> Tensor:
        return last.read_by(self.readout, 1 / self.groups)

    def auxiliary(self, scores: Tensor) -> Tensor:
        return self(scores)
