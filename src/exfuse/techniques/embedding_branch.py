"""Semantic embedding branch (SEB), ExFuse section 3.1 and figure 4: high-level maps guide a low-level one.

Wiring (figure 2): res-2 takes res-3, res-4 and res-5; res-3 takes res-4 and res-5; res-4 takes res-5; res-5 stays as it is.
Each option below is one way of fusing; `ProductEmbedding` is the paper's, the others are controls. Every option starts as the
network without it (chosen): a pretrained encoder's maps, whatever their size, reach the decoder as they are until something is
learned.
"""

import operator
from collections.abc import MutableMapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from exfuse.models.upsample import enlarge


class NoEmbedding(nn.Module):
    """The baseline: every level reaches the decoder as the encoder made it."""

    def __init__(self, channels: Sequence[int], levels: Sequence[int]) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return maps


class FusingEmbedding(nn.Module):
    """Wiring of SEB; a subclass says how one low-level map and its upsampled guides become one map.

    Args:
        channels: channels of the encoder's maps, shallow to deep.
        levels: their names in the paper, e.g. (2, 3, 4, 5) for res-2..res-5.

    Shapes:
        input one (B, C_l, H_l, W_l) map per level, shallow to deep; output the same shapes.
    """

    # Where every guide starts, constant: the value that leaves the low-level map as it is, or nearly.
    neutral: float

    def __init__(self, channels: Sequence[int], levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.guides = nn.ModuleDict()
        for low, low_channels in zip(levels, channels, strict=True):
            for high, high_channels in zip(levels, channels, strict=True):
                if high > low:
                    self.guides[f"res{high}_to_res{low}"] = ScaledConvolution(high_channels, low_channels, 3, self.neutral)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        embedded = []
        for level, low, guides in zip(self.levels, maps, self.convolve(maps), strict=True):
            enlarged = [enlarge(guide, low.shape[-2:]) for guide in guides]
            embedded.append(self.fuse(level, low, enlarged) if enlarged else low)
        return embedded

    def convolve(self, maps: list[Tensor]) -> list[list[Tensor]]:
        """For each level the guides from all deeper maps, shallow to deep: a 3x3 convolution at their own size."""
        named = list(zip(self.levels, maps, strict=True))
        return [
            [self.guides[f"res{high}_to_res{low}"](high_map) for high, high_map in named[place + 1 :]]
            for place, low in enumerate(self.levels)
        ]

    def fuse(self, level: int, low: Tensor, guides: list[Tensor]) -> Tensor:
        """Combine ``low`` (B, C, H, W) with its guides, each of the same shape, into one map of that shape."""
        raise NotImplementedError


class ProductEmbedding(FusingEmbedding):
    """Figure 4: the low-level map times every upsampled high-level map, element by element.

    Example:
        Between any encoder, whose maps it takes shallow to deep, and any decoder:

        >>> embed = ProductEmbedding(channels=(64, 128, 256), levels=(3, 4, 5))
        >>> maps = [torch.randn(2, 64, 32, 48), torch.randn(2, 128, 16, 24), torch.randn(2, 256, 8, 12)]
        >>> [tuple(each.shape) for each in embed(maps)]
        [(2, 64, 32, 48), (2, 128, 16, 24), (2, 256, 8, 12)]
    """

    neutral = 1.0

    def fuse(self, level: int, low: Tensor, guides: list[Tensor]) -> Tensor:  # noqa: ARG002
        return reduce(operator.mul, guides, low)


class SumEmbedding(FusingEmbedding):
    """Control: add instead of multiply."""

    neutral = 0.0

    def fuse(self, level: int, low: Tensor, guides: list[Tensor]) -> Tensor:  # noqa: ARG002
        return reduce(operator.add, guides, low)


class GateEmbedding(FusingEmbedding):
    """Control: multiply by sigmoid gates, which can only weaken the low-level map."""

    neutral = 4.0  # sigmoid(4) = 0.98: three gates in a row start open but for 5 %

    def fuse(self, level: int, low: Tensor, guides: list[Tensor]) -> Tensor:  # noqa: ARG002
        return reduce(operator.mul, map(torch.sigmoid, guides), low)


class ConcatEmbedding(FusingEmbedding):
    """Control: concatenate the low-level map with its guides, and add what a 1x1 convolution makes of them to the map.

    The sum (chosen) lets it start as the identity, which the convolution alone cannot do without favouring its first inputs.
    """

    neutral = 0.0

    def __init__(self, channels: Sequence[int], levels: Sequence[int]) -> None:
        super().__init__(channels, levels)
        self.reduce = nn.ModuleDict(
            {
                f"res{level}": _Reduction(width * (len(channels) - position), width)
                for position, (level, width) in enumerate(zip(levels[:-1], channels[:-1], strict=True))
            }
        )

    def fuse(self, level: int, low: Tensor, guides: list[Tensor]) -> Tensor:
        return low + self.reduce[f"res{level}"](torch.cat([low, *guides], dim=1))


class ScaledConvolution(nn.Conv2d):
    """A convolution with the kernel ``weight * fan_in**-0.5``, keeping H and W: (B, high, H, W) -> (B, low, H, W).

    Starts as the constant ``neutral``. Adam's steps are as long whatever the fan-in: unscaled, thousands of weights that move
    together would throw a guide far off within the first fifty.
    """

    def __init__(self, high: int, low: int, side: int, neutral: float) -> None:
        self.neutral, self.scale = neutral, (high * side**2) ** -0.5
        super().__init__(high, low, side, padding=side // 2)

    def reset_parameters(self) -> None:
        assert self.bias is not None
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, self.neutral)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps * self.scale)  # the same as a scaled kernel, which is larger than the map


class _Reduction(ScaledConvolution):
    """1x1, zero where it reads the low-level map; random where it reads the guides, which start at zero and so can learn."""

    def __init__(self, stacked: int, low: int) -> None:
        super().__init__(stacked, low, 1, neutral=0.0)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight[:, self.out_channels :])


@torch.no_grad()
def take_unscaled(embedding: FusingEmbedding, state: MutableMapping[str, Tensor], prefix: str) -> None:
    """Change weights in place that were saved before kernels were scaled and ``concat`` added to its map: the same function.

    Args:
        embedding: that is to load them.
        state: a state dict.
        prefix: of the embedding's names in it, such as ``embedding.``.
    """
    for name, module in embedding.named_modules():
        if not isinstance(module, ScaledConvolution) or (key := f"{prefix}{name}.weight") not in state:
            continue
        weight = state[key].clone()
        if isinstance(module, _Reduction):
            nn.init.dirac_(identity := torch.zeros_like(weight))
            weight -= identity
        state[key] = weight / module.scale
