"""The end of a widened decoder, where its k*k*C maps at full resolution cost the most: deconvolution, BR and linear head.

With y the map before, D the deconvolution, f and g the convolutions of BR and A the head (DAP's averaging, or a control's)::

    scores = A(D y + g(relu(f(D y)))) = (A D) y + (A g) relu((f D) y)

Each pair in brackets is linear and becomes one convolution: A D and A g have C outputs instead of k*k*C, and D y is never made.
All three work on the four sub-pixels of the result as channels at the size of y, so that no k*k*C channels are rearranged.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.fusing.crop import crop
from exfuse.fusing.graph import Make
from exfuse.fusing.heads import readout_of
from exfuse.fusing.linear import (
    as_convolution,
    carried_bias,
    compose,
    compose_after_deconvolution,
    convolution_to_phases,
    deconvolution_to_phases,
)
from exfuse.models.gcn import BoundaryRefinement


class FoldedTail(nn.Module):
    """See the formula above. Exact at the borders too, where D y, f D y and g's output end but the composed kernels go on.

    The outermost positions are computed layer by layer, on strips a few rows or columns wide, and put in place.

    Args:
        deconvolution: 2x, kernel 4.
        refinement: BR.
        head: one that `readout_of` knows.
        make: makes a convolution joined with an activation.

    Shapes:
        input (B, k*k*C, h, w) and a size (H, W) with 2h - 1 <= H <= 2h, W likewise; output (B, C, H, W).
    """

    def __init__(self, deconvolution: nn.ConvTranspose2d, refinement: BoundaryRefinement, head: nn.Module, make: Make) -> None:
        super().__init__()
        first, second, spread = refinement.first, refinement.second, deconvolution.weight.detach()
        readout = readout_of(head)
        assert readout is not None
        narrow = readout.kernel
        assert first.bias is not None
        assert second.bias is not None
        assert deconvolution.bias is not None
        self.reach, self.width = narrow.shape[-1] // 2, first.out_channels
        # of a ConvTranspose2d: (I, M, 4, 4); composed with f: (I, M, 6, 6)
        hidden = deconvolution_to_phases(compose_after_deconvolution(spread, first.weight.detach()), padding=2)
        hidden_bias = carried_bias(deconvolution.bias.detach(), first.weight.detach()) + first.bias.detach()
        self.hidden = make(as_convolution(hidden.flatten(0, 2), hidden_bias.repeat(4)), nn.ReLU())
        # to channels (C, row, column), as pixel_shuffle wants them
        skip = deconvolution_to_phases(compose_after_deconvolution(spread, narrow), padding=1 + self.reach)
        bias = carried_bias(deconvolution.bias.detach() + second.bias.detach(), narrow) + readout.bias
        self.skip = make(as_convolution(skip.permute(2, 0, 1, 3, 4, 5).flatten(0, 2), bias.repeat_interleave(4)), None)
        refine = convolution_to_phases(compose(second.weight.detach(), narrow)).permute(2, 0, 1, 3, 4, 5, 6, 7)
        refine = refine.flatten(3, 5).flatten(0, 2)
        self.refine = make(as_convolution(refine, torch.zeros_like(bias).repeat_interleave(4)), None)
        self.deconvolution, self.refinement, self.head = deconvolution, refinement, head

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        hidden = self.hidden(maps)  # (B, 4 k*k*C, h, w)
        phases = hidden.unflatten(1, (2, 2, self.width))
        edges = [(dim, at_end, *self._layer_by_layer(maps, size, dim, at_end)) for dim in (2, 3) for at_end in (False, True)]
        for dim, at_end, inside, _ in edges:
            phases.narrow(dim + 2, maps.shape[dim] - 1 if at_end else 0, 1).copy_(_to_phases(inside))
        scores = crop(F.pixel_shuffle(self.refine(hidden, self.skip(maps)), 2), *size)
        for dim, at_end, _, edge in edges:
            length = edge.shape[dim]
            edge = crop(edge, *((length, size[1]) if dim == 2 else (size[0], length)))
            scores.narrow(dim, size[dim - 2] - length if at_end else 0, length).copy_(edge)
        return scores

    def _layer_by_layer(self, maps: Tensor, size: tuple[int, int], dim: int, at_end: bool) -> tuple[Tensor, Tensor]:
        """One edge of the result: BR's map inside, two wide (zero beyond the result), and the scores, ``reach`` wide."""
        length = _at_most(self.reach + 2, maps.shape[dim])
        start = maps.shape[dim] - length if at_end else 0
        strip = maps.narrow(dim, start, length)
        rows, columns = (
            torch.arange(2 * strip.shape[axis], device=maps.device) + (2 * start if axis == dim else 0) < size[axis - 2]
            for axis in (2, 3)
        )
        within = (rows[:, None] & columns).to(maps.dtype)  # what doubling overshoots is zero, as padding is
        wide = self.deconvolution(strip) * within
        inside = F.relu(self.refinement.first(wide)) * within
        scores = self.head((wide + self.refinement.second(inside)) * within)
        width = _at_most(self.reach, size[dim - 2])
        place = 2 * length - size[dim - 2] % 2 - width if at_end else 0
        return inside.narrow(dim, 2 * length - 2 if at_end else 0, 2), scores.narrow(dim, place, width)


def _at_most(number: int, bound: int) -> int:
    # not min(), of which torch.export makes an expression where it could know the result
    return number if bound >= number else bound


def _to_phases(maps: Tensor) -> Tensor:
    """Sub-pixels as a dimension of their own: (B, C, 2h, 2w) -> (B, 2, 2, C, h, w)."""
    rows = [torch.stack([maps[..., row::2, column::2] for column in (0, 1)], 1) for row in (0, 1)]
    return torch.stack(rows, 1)
