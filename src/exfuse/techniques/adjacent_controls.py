"""Controls for DAP: what a map of its size, its width or its reach does without its neighbours' votes.

DAP is linear: the average over shifted groups is a fixed, sparse k x k convolution, so DAP behind a convolution is itself one
convolution with a larger kernel. These heads ask whether it is anything more. Each has DAP's interface and starts as the same
function as the head it stands for, so that only what training makes of the parameters differs.
"""

import torch
from torch import Tensor, nn

from exfuse.limits import Odd
from exfuse.techniques.adjacent_prediction import AdjacentPrediction, LastBlockPrediction, PlainPrediction, WideControl


class LastBlockControl(LastBlockPrediction):
    """DAP's narrow form without its shifts: the k*k groups are averaged where they are. Same parameters, smaller reach.

    Shapes:
        input (B, C, H, W); output (B, C, H, W).
    """

    def __init__(self, classes: int, window: Odd = 3) -> None:
        super().__init__(classes, window)
        self.adjacent = WideControl(classes, window)


class LargerKernel(PlainPrediction):
    """One (k + 2) x (k + 2) convolution: the reach of DAP's narrow form, whose 3x3 convolution and shifts compose to it.

    Starts as that form does, as the identity; k*k*9 weights a pair of classes become (k + 2)^2.

    Shapes:
        input (B, C, H, W); output (B, C, H, W).
    """

    def __init__(self, classes: int, window: Odd = 3) -> None:
        super().__init__(classes)
        if window % 2 == 0:
            raise ValueError(f"an even window has no centre, got {window}")
        self.window = window
        self.convolution = nn.Conv2d(classes, classes, window + 2, padding=window // 2 + 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)
        nn.init.dirac_(self.convolution.weight)

    def forward(self, scores: Tensor) -> Tensor:
        return self.convolution(scores)


class WideKernel(nn.Module):
    """Behind a widened decoder a learned k x k convolution in the place of DAP's fixed one, from which it starts.

    Shapes:
        input (B, k*k*C, H, W); output (B, C, H, W).
    """

    def __init__(self, classes: int, window: Odd = 3) -> None:
        super().__init__()
        self.fixed = AdjacentPrediction(classes, window)
        self.classes, self.window, self.decoder_channels = classes, window, self.fixed.decoder_channels
        self.convolution = nn.Conv2d(self.decoder_channels, classes, window, padding=window // 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)
        nn.init.zeros_(self.convolution.weight)
        groups = self.convolution.weight.data.unflatten(1, (self.window**2, self.classes))  # (C, k*k, C, k, k)
        diagonal = torch.arange(self.classes)
        for group in range(self.window**2):
            groups[diagonal, group, diagonal, group // self.window, group % self.window] = self.window**-2

    def forward(self, scores: Tensor) -> Tensor:
        return self.convolution(scores)

    def auxiliary(self, scores: Tensor) -> Tensor:
        return self.fixed(scores)
