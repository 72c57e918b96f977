"""DAP's last convolution and its averaging as one convolution, the border corrected."""

from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.fusing.graph import Make
from exfuse.fusing.heads import Readout
from exfuse.fusing.linear import as_convolution, carried_bias, compose


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
