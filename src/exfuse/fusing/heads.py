"""Heads folded into the linear layers before them.

A widened decoder's k*k*C maps at full resolution cost the most. With y the map before the last deconvolution D, f and g the
convolutions of BR and A the head (DAP's averaging, or a control's)::

    scores = A(D y + g(relu(f(D y)))) = (A D) y + (A g) relu((f D) y)

Each pair in brackets is linear and becomes one convolution: A D and A g have C outputs instead of k*k*C, and D y is never made.
All three work on the four sub-pixels of the result as channels at the size of y, so that no k*k*C channels are rearranged.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.fusing.graph import Make
from exfuse.fusing.linear import (
    as_convolution,
    carried_bias,
    compose,
    compose_after_deconvolution,
    convolution_to_phases,
    deconvolution_to_phases,
)
from exfuse.models.gcn import BoundaryRefinement
from exfuse.techniques.adjacent_controls import WideKernel
from exfuse.techniques.adjacent_prediction import AdjacentPrediction, WideControl


class Readout(NamedTuple):
    """A convolution that keeps H and W: its kernel (C, D, k, k), k odd, and its bias (C,)."""

    kernel: Tensor
    bias: Tensor


def readout_of(head: nn.Module, like: Tensor) -> Readout | None:
    """The convolution that a head of a widened decoder's maps is; None for a head that is none.

    Args:
        head: any.
        like: gives the device and dtype.
    """
    if isinstance(head, WideKernel):
        assert head.convolution.bias is not None
        return Readout(head.convolution.weight.detach(), head.convolution.bias.detach())
    if not isinstance(head, (AdjacentPrediction, WideControl)):
        return None
    kernel = sum_as_kernel(head).to(like) / head.window**2
    if isinstance(head, WideControl):
        kernel = kernel[..., 1:-1, 1:-1]  # a 1x1 kernel, held as 3x3
    return Readout(kernel, kernel.new_zeros(len(kernel)))


def sum_as_kernel(head: AdjacentPrediction | WideControl) -> Tensor:
    """The sum in DAP as a convolution, (C, k*k*C, k', k') with k' = max(k, 3): ones at ``[c, (l*k + m)*C + c, l, m]``.

    In its control's all ones lie in the centre.
    """
    k, classes = head.window, head.classes
    side = max(k, 3) if isinstance(head, AdjacentPrediction) else 3
    kernel = torch.zeros(classes, k, k, classes, side, side)
    for row in range(k):
        for col in range(k):
            shift = (row - k // 2, col - k // 2) if isinstance(head, AdjacentPrediction) else (0, 0)
            kernel[:, row, col, :, side // 2 + shift[0], side // 2 + shift[1]] = torch.eye(classes)
    return kernel.flatten(1, 3)


def cut(maps: Tensor, height: int, width: int) -> Tensor:
    """The first ``height`` rows and ``width`` columns of (B, C, h, w)."""
    if torch.compiler.is_compiling():
        # A slice that sometimes cuts and sometimes does not makes torch.export fix which: these always copy.
        rows, columns = (torch.arange(length, device=maps.device) for length in (height, width))
        return maps.index_select(2, rows).index_select(3, columns)
    return maps[..., :height, :width]


class ComposedLastBlock(nn.Module):
    """`LastBlockPrediction` (or its control) without its k*k*C maps: two convolutions make one, for DAP 5x5, C -> C.

    The composed kernel sees scores in the ring just outside the map, which DAP counts as zero. What they contribute depends on
    the map's outermost rows and columns and reaches no farther, so it is computed there alone and subtracted.

    Args:
        widen: the 3x3 convolution.
        readout: the averaging as a convolution, without a bias.
        make: makes a convolution joined with an activation.

    Shapes:
        input (B, C, H, W); output (B, C, H, W).
    """

    inner: Tensor
    bias: Tensor
    outer: Tensor

    def __init__(self, widen: nn.Conv2d, readout: Readout, make: Make) -> None:
        super().__init__()
        assert widen.bias is not None
        inner, bias, outer = widen.weight.detach(), widen.bias.detach(), readout.kernel
        self.reach = outer.shape[-1] // 2
        self.convolution = make(as_convolution(compose(inner, outer), carried_bias(bias, outer)), None)
        for name, tensor in (("inner", inner), ("bias", bias), ("outer", outer)):
            self.register_buffer(name, tensor.clone(), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        result = self.convolution(scores)
        if self.reach == 0:
            return result
        # the ring's corners go with its rows
        self._subtract_rows(result, scores, self.inner, self.outer, corners=self.reach)
        self._subtract_rows(result.mT, scores.mT, self.inner.mT, self.outer.mT, corners=0)
        return result

    def _subtract_rows(self, result: Tensor, scores: Tensor, inner: Tensor, outer: Tensor, corners: int) -> None:
        """Subtract from ``result``, in place, what the ring above and below the map contributes to it.

        Args:
            result, scores: (B, C, H, W).
            inner, outer: the two kernels.
            corners: how far the ring's rows stick out on both sides.
        """
        reach, radius = self.reach, inner.shape[-1] // 2
        height = result.shape[-2]
        for above in (True, False):
            edge = scores[..., :radius, :] if above else scores[..., -radius:, :]
            outside = (reach + radius, 0) if above else (0, reach + radius)
            ring = F.conv2d(F.pad(edge, (corners + radius, corners + radius, *outside)), inner, self.bias)
            inside = (0, reach - 1) if above else (reach - 1, 0)
            ring = F.pad(ring, (reach - corners, reach - corners, *inside))
            rows = F.conv2d(ring, outer[..., :reach, :] if above else outer[..., -reach:, :])  # (B, C, reach, W)
            if above:
                result[..., :reach, :] -= rows[..., :height, :]
            else:
                result[..., -reach:, :] -= rows[..., -height:, :]


class FoldedTail(nn.Module):
    """See the formula at the top. Exact at the borders too, where D y, f D y and g's output end but the composed kernels go on.

    The outermost positions are computed layer by layer, on strips a few rows or columns wide, and put in place.

    Args:
        deconvolution: 2x, kernel 4.
        refinement: BR.
        head: one that `readout_of` knows, and its readout.
        make: makes a convolution joined with an activation.

    Shapes:
        input a pair of (B, k*k*C, h, w) and a size (H, W) with 2h - 1 <= H <= 2h, W likewise; output (B, C, H, W).
    """

    def __init__(
        self, deconvolution: nn.ConvTranspose2d, refinement: BoundaryRefinement, head: nn.Module, readout: Readout, make: Make
    ) -> None:
        super().__init__()
        first, second, spread = refinement.first, refinement.second, deconvolution.weight.detach()
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

    def forward(self, last: tuple[Tensor, tuple[int, int]]) -> Tensor:
        maps, size = last
        hidden = self.hidden(maps)  # (B, 4 k*k*C, h, w)
        phases = hidden.unflatten(1, (2, 2, self.width))
        edges = [(dim, at_end, *self._layer_by_layer(maps, size, dim, at_end)) for dim in (2, 3) for at_end in (False, True)]
        for dim, at_end, inside, _ in edges:
            phases.narrow(dim + 2, maps.shape[dim] - 1 if at_end else 0, 1).copy_(_to_phases(inside))
        scores = cut(F.pixel_shuffle(self.refine(hidden, self.skip(maps)), 2), *size)
        for dim, at_end, _, edge in edges:
            length = edge.shape[dim]
            edge = cut(edge, *((length, size[1]) if dim == 2 else (size[0], length)))
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
