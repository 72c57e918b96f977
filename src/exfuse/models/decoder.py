"""The U-shaped decoder of GCN, which ExFuse keeps (figure 2 of ExFuse, figure 2 of GCN)."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from exfuse.limits import Levels, Odd
from exfuse.models.gcn import BoundaryRefinement, GlobalConvolution
from exfuse.models.upsample import Deconvolution, cut


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
        levels: Levels,
        channels: Sequence[int],
        reductions: Sequence[int],
        width: int,
        first_upsampling: Callable[..., nn.Module],
        kernel: Odd,
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
        laterals = [self.run(lateral, level) for lateral, level in zip(self.lateral.values(), maps, strict=True)]
        scores, skips = laterals[-1], laterals[-2::-1]  # deepest first
        first = scores
        for step, stride in enumerate(self.strides[:-1]):
            scores = self.run(self.upsamplings[step], scores)
            # An encoder rounds sizes up, so doubling overshoots by up to one row and column.
            scores = cut(scores, ((size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1))
            if step == 0:
                first = scores
            if step < len(skips):
                scores = scores + skips[step]
            scores = self.run(self.refinements[step], scores)
        return self.finish(scores, size), first

    def finish(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """The last upsampling and its BR: (B, width, h, w) -> (B, width, H, W)."""
        upsampling, refinement = self.upsamplings[-1], self.refinements[-1]
        return self.run(lambda scores: refinement(cut(upsampling(scores), size)), scores)


def _directly(block: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return block(*arguments)


def _checkpointed(block: Callable[..., Tensor], *arguments: Any) -> Tensor:
    # no block of the decoder draws random numbers
    return checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False)
