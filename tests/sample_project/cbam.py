"""CBAM (Woo et al., ECCV 2018): attention over the channels, then over the places, of each map that the decoder reads."""

import torch
from torch import nn


class ChannelAttention(nn.Module):
    """Equation 2: one small network reads each map's means and maxima and weighs its channels."""

    def __init__(self, channels, levels, reduction: int = 4):
        super().__init__()
        self.weigh = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c // reduction, 1), nn.ReLU(), nn.Conv2d(c // reduction, c, 1)) for c in channels
        )

    def forward(self, maps):
        pairs = zip(maps, self.weigh, strict=True)
        return [each * 2 * (weigh(each.mean((2, 3), True)) + weigh(each.amax((2, 3), True))).sigmoid() for each, weigh in pairs]


class SpatialAttention(nn.Module):
    """Equation 3: a convolution reads the mean and the maximum over channels and weighs the places."""

    def __init__(self, channels, levels, kernel: int = 7):
        super().__init__()
        self.weigh = nn.ModuleList(nn.Conv2d(2, 1, kernel, padding=kernel // 2) for _ in channels)

    def forward(self, maps):
        read = [torch.cat((each.mean(1, True), each.amax(1, True)), 1) for each in maps]
        return [each * 2 * weigh(seen).sigmoid() for each, weigh, seen in zip(maps, self.weigh, read, strict=True)]
