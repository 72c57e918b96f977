"""DAP's last convolution and its averaging as one convolution, the border corrected."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.models.fusing.graph import Make
from src.models.fusing.linear import as_convolution, carried_bias, compose, shifted_mean_kernel
from src.techniques.adjacent_prediction import LastBlockPrediction


class ComposedLastBlock(nn.Module):
    """`LastBlockPrediction` without its k*k*C maps: a 3x3 and a 3x3 convolution make one of 5x5, C -> C.

    The composed kernel sees scores in the ring just outside the map, which DAP counts as zero. What they contribute depends on
    the map's outermost rows and columns and reaches no farther, so it is computed there alone and subtracted.

    Shapes:
        input (B, C, H, W); output (B, C, H, W).
    """

    def __init__(self, head: LastBlockPrediction, make: Make) -> None:
        super().__init__()
        assert head.widen.bias is not None
        self.reach = head.adjacent.window // 2
        outer = shifted_mean_kernel(head.adjacent.classes, head.adjacent.window, head.widen.weight)
        inner, bias = head.widen.weight.detach(), head.widen.bias.detach()
        self.convolution = make(as_convolution(compose(inner, outer), carried_bias(bias, outer)), None)
        for name, tensor in (("inner", inner), ("bias", bias), ("outer", outer)):
            self.register_buffer(name, tensor.clone(), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        result = self.convolution(scores)
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
