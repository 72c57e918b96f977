"""The U-shaped decoder of GCN, which ExFuse keeps (figure 2 of ExFuse, figure 2 of GCN)."""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from exfuse.fusing.composed import convolve_twice, convolve_upsampled, frame_of_upsampled, with_edges
from exfuse.models.gcn import BoundaryRefinement, GlobalConvolution
from exfuse.models.upsample import Deconvolution


class LastStep(NamedTuple):
    """The decoder's last upsampling and BR before they are calculated: a linear head may compose itself with their layers.

    Attributes:
        scores: (B, width, h, w), what they start from.
        upsampling, refinement: the two blocks.
        size: (H, W) of their output.
    """

    scores: Tensor
    upsampling: Deconvolution
    refinement: BoundaryRefinement
    size: tuple[int, int]

    def maps(self) -> Tensor:
        """The decoder's output, (B, width, H, W)."""
        return self.refinement(self.upsampling(self.scores)[..., : self.size[0], : self.size[1]])

    def read_by(self, kernel: Tensor, factor: float) -> Tensor:
        """``factor * conv(maps(), kernel)`` without the map that the decoder outputs and without the upsampled one.

        BR is ``x + second(relu(first(x)))`` and x is a deconvolution's output, so that the kernel passes through both summands:
        ``first``, and the kernel itself, are composed with the deconvolution, and the kernel with ``second``. Of the maps with
        the decoder's width at full resolution only relu's is made and kept for the backward pass.

        Args:
            kernel: (C, width, 3, 3), applied with padding 1.
            factor: of the result.

        Returns:
            (B, C, H, W).
        """
        layer, first, second = self.upsampling.layer, self.refinement.first, self.refinement.second
        assert layer.bias is not None
        assert second.bias is not None
        scores, edges = with_edges(self.scores)
        outside = frame_of_upsampled(edges, scores.shape[-2:], layer.weight, layer.bias, self.size)
        upsampled = partial(
            convolve_upsampled, maps=scores, weight=layer.weight, bias=layer.bias, outside=outside, size=self.size
        )
        hidden = F.relu_(upsampled(second=first.weight, second_bias=first.bias))
        passed = upsampled(second=kernel, second_bias=None)
        return factor * passed + convolve_twice(hidden, second.weight * factor, second.bias * factor, kernel)


class Decoder(nn.Module):
    """GCN -> BR per level; then, from the deepest level up: upsample, add the next level if there is one, BR.

    With four levels of an encoder of stride 32 these are the paper's 4 GCN blocks, 5 upsamplings and 9 BR blocks. With fewer
    levels the upsamplings and their BR blocks stay (chosen), so that only the features differ.

    Args:
        levels: which of res-2..res-5 come in, shallow to deep.
        channels: their channels.
        reductions: their strides.
        width: channels of every map inside: the number of classes, or DAP's multiple of it.
        first_upsampling: makes the first upsampling from (channels=, scale=), ECRE's slot; it knows its ``auxiliary_weight``.
        kernel: k of the global convolutions.
        checkpoint_activations: keep only what enters each block for the backward pass, which calculates the rest again:
            less memory, more time, the same numbers.

    Shapes:
        input one (B, channels[i], ceil(H / reductions[i]), ceil(W / reductions[i])) map per level and the image's (H, W);
        output (B, width, H, W) and the first upsampling's (B, width, h, w).
    """

    def __init__(
        self,
        levels: Sequence[int],
        channels: Sequence[int],
        reductions: Sequence[int],
        width: int,
        first_upsampling: Callable[..., nn.Module],
        kernel: int,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        # runs a block on its arguments
        self.run: Callable[..., Any] = _checkpointed if checkpoint_activations else _directly
        self.lateral = nn.ModuleDict(
            {
                f"res{level}": nn.Sequential(GlobalConvolution(level_channels, width, kernel), BoundaryRefinement(width))
                for level, level_channels in zip(levels, channels, strict=True)
            }
        )
        # Strides of the decoder's maps from deep to full resolution, e.g. 32, 16, 8, 4, 2, 1.
        strides = [*reversed(reductions)]
        strides += [strides[-1] // 2 ** (halving + 1) for halving in range(int(math.log2(strides[-1])))]
        self.strides = strides[1:]
        steps = [deep // shallow for deep, shallow in itertools.pairwise(strides)]
        first = first_upsampling(channels=width, scale=steps[0])
        self.auxiliary_weight: float = first.auxiliary_weight  # type: ignore[assignment]
        self.upsamplings = nn.ModuleList([first, *(Deconvolution(width, scale) for scale in steps[1:])])
        self.refinements = nn.ModuleList(BoundaryRefinement(width) for _ in steps)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        last, first = self.until_last(maps, size)
        return self.run(last.maps), first

    def until_last(self, maps: list[Tensor], size: Sequence[int]) -> tuple[LastStep, Tensor]:
        """As `forward`, but without the last upsampling and its BR."""
        laterals = [self.run(lateral, level) for lateral, level in zip(self.lateral.values(), maps, strict=True)]
        scores, skips = laterals[-1], laterals[-2::-1]  # deepest first
        first = scores
        for step, (upsampling, stride) in enumerate(zip(self.upsamplings[:-1], self.strides[:-1], strict=True)):
            scores = self.run(upsampling, scores)
            # An encoder rounds sizes up, so doubling overshoots by up to one row and column: cut them off.
            scores = scores[..., : math.ceil(size[0] / stride), : math.ceil(size[1] / stride)]
            if step == 0:
                first = scores
            if step < len(skips):
                scores = scores + skips[step]
            scores = self.run(self.refinements[step], scores)
        return LastStep(scores, self.upsamplings[-1], self.refinements[-1], (size[0], size[1])), first  # type: ignore[arg-type]


def _directly(block: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return block(*arguments)


def _checkpointed(block: Callable[..., Tensor], *arguments: Any) -> Tensor:
    # no block of the decoder draws random numbers
    return checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False)
