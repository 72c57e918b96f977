"""The U-shaped decoder of GCN, which ExFuse keeps (figure 2 of ExFuse, figure 2 of GCN)."""

import itertools
import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from src.models.gcn import BoundaryRefinement, GlobalConvolution
from src.models.upsample import Deconvolution


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
    ) -> None:
        super().__init__()
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
        laterals = [lateral(level) for lateral, level in zip(self.lateral.values(), maps, strict=True)]
        scores, skips = laterals[-1], laterals[-2::-1]  # deepest first
        first = scores
        for step, (upsampling, refinement, stride) in enumerate(
            zip(self.upsamplings, self.refinements, self.strides, strict=True)
        ):
            scores = upsampling(scores)
            # An encoder rounds sizes up, so doubling overshoots by up to one row and column: cut them off.
            scores = scores[..., : math.ceil(size[0] / stride), : math.ceil(size[1] / stride)]
            if step == 0:
                first = scores
            if step < len(skips):
                scores = scores + skips[step]
            scores = refinement(scores)
        return scores, first
