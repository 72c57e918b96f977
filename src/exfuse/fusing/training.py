"""Faster forms for training, and for evaluation where `fuse` asks for it: the same function under the same names."""

import itertools
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.fusing.composed import convolve_twice, convolve_upsampled, frame_of_upsampled, with_edges
from exfuse.fusing.shifted_mean import ShiftedMean
from exfuse.fusing.small_maps import convolve_each
from exfuse.models.decoder import Decoder
from exfuse.models.gcn import BoundaryRefinement
from exfuse.models.segmenter import Segmenter
from exfuse.models.upsample import Deconvolution
from exfuse.techniques.adjacent_controls import WideKernel
from exfuse.techniques.adjacent_prediction import AdjacentPrediction, LastBlockPrediction, WideControl
from exfuse.techniques.embedding_branch import ConcatEmbedding, GateEmbedding, ProductEmbedding, SumEmbedding

Model = TypeVar("Model", bound=nn.Module)
_WIDEST = 3  # composed layers have 3x3 kernels


def accelerate(model: Model) -> Model:
    """Give the modules of a `Segmenter`, or of another network, their faster forms, in place, and return it.

    In evaluation mode they do what they did, unless their ``composes`` says otherwise. Modules without such a form, those of
    other code among them, stay as they are.
    """
    for module in [*model.modules()]:
        if form := _FORMS.get(type(module)):
            module.__class__ = form
        if isinstance(module, (_Adjacent, _Control)):
            own = itertools.chain(model.parameters(), model.buffers())
            like = next((one for one in own if one.is_floating_point()), torch.empty(0))
            module.register_buffer("readout", sum_as_kernel(module).to(like.device, like.dtype), persistent=False)
    if not isinstance(model, Segmenter):
        return model
    head, decoder = model.head, model.decoder
    reads = (
        isinstance(head, _Control)
        or (isinstance(head, _Adjacent) and head.window <= _WIDEST)
        or (isinstance(head, _Kernel) and head.window == _WIDEST)
    )
    if reads and type(decoder) is Decoder:
        decoder.__class__ = OpenDecoder
    return model


def sum_as_kernel(head: AdjacentPrediction) -> Tensor:
    """The sum in DAP as a convolution, (C, k*k*C, k', k') with k' = max(k, 3): ones at ``[c, (l*k + m)*C + c, l, m]``.

    In its control's all ones lie in the centre.
    """
    k, classes = head.window, head.classes
    side = 3 if isinstance(head, WideControl) else max(k, 3)
    kernel = torch.zeros(classes, k, k, classes, side, side)
    for row in range(k):
        for col in range(k):
            shift = (0, 0) if isinstance(head, WideControl) else (row - k // 2, col - k // 2)
            kernel[:, row, col, :, side // 2 + shift[0], side // 2 + shift[1]] = torch.eye(classes)
    return kernel.flatten(1, 3)


class _LastStep(NamedTuple):
    """The decoder's last upsampling and BR before they are calculated: a linear head composes itself with their layers.

    Attributes:
        scores: (B, width, h, w), what they start from.
        upsampling, refinement: the two blocks.
        size: (H, W) of their output.
        run: runs a function on its arguments, checkpointed if the decoder is.
    """

    scores: Tensor
    upsampling: Deconvolution
    refinement: BoundaryRefinement
    size: tuple[int, int]
    run: Any

    def read_by(self, kernel: Tensor, factor: float) -> Tensor:
        """``factor * conv(maps, kernel)`` without the map that the decoder outputs and without the upsampled one.

        BR is ``x + second(relu(first(x)))`` and x is a deconvolution's output, so that the kernel passes through both summands:
        ``first``, and the kernel itself, are composed with the deconvolution, and the kernel with ``second``. Of the maps with
        the decoder's width at full resolution only relu's is made and kept for the backward pass.

        Args:
            kernel: (C, width, 3, 3), applied with padding 1.
            factor: of the result.

        Returns:
            (B, C, H, W).
        """
        return self.run(self._read, self.scores, kernel, factor)

    def _read(self, scores: Tensor, kernel: Tensor, factor: float) -> Tensor:
        layer, first, second = self.upsampling.layer, self.refinement.first, self.refinement.second
        assert layer.bias is not None
        assert second.bias is not None
        scores, edges = with_edges(scores)
        outside = frame_of_upsampled(edges, scores.shape[-2:], layer.weight, layer.bias, self.size)
        upsampled = partial(
            convolve_upsampled, maps=scores, weight=layer.weight, bias=layer.bias, outside=outside, size=self.size
        )
        hidden = F.relu_(upsampled(second=first.weight, second_bias=first.bias))
        passed = upsampled(second=kernel, second_bias=None)
        return factor * passed + convolve_twice(hidden, second.weight * factor, second.bias * factor, kernel)


class OpenDecoder(Decoder):
    """Leaves its last step to the head, in training and where it ``composes``."""

    composes = False

    def finish(self, scores: Tensor, size: tuple[int, int]) -> Any:
        if not (self.training or self.composes):
            return super().finish(scores, size)
        return _LastStep(scores, self.upsamplings[-1], self.refinements[-1], size, self.run)  # type: ignore[arg-type]


class _Adjacent(AdjacentPrediction):
    readout: Tensor

    def forward(self, scores: Tensor | _LastStep) -> Tensor:
        if isinstance(scores, _LastStep):
            return scores.read_by(self.readout, 1 / self.window**2)
        if torch.is_grad_enabled() and scores.requires_grad:
            return ShiftedMean.apply(scores, self.classes, self.window)
        return super().forward(scores)


class _Control(WideControl):
    readout: Tensor

    def forward(self, scores: Tensor | _LastStep) -> Tensor:
        if isinstance(scores, _LastStep):
            return scores.read_by(self.readout, 1 / self.window**2)
        return super().forward(scores)


class _Kernel(WideKernel):
    def forward(self, scores: Tensor | _LastStep) -> Tensor:
        if isinstance(scores, _LastStep):
            assert self.convolution.bias is not None
            return scores.read_by(self.convolution.weight, 1.0) + self.convolution.bias[:, None, None]
        return super().forward(scores)


class LastBlock(LastBlockPrediction):
    """DAP's narrow form with its convolution and its sum in one, in training and where it ``composes``."""

    composes = False

    def forward(self, scores: Tensor) -> Tensor:
        if not (self.training or self.composes) or self.adjacent.window > _WIDEST:
            return super().forward(scores)
        assert self.widen.bias is not None
        share, readout = 1 / self.adjacent.window**2, self.adjacent.readout
        return convolve_twice(scores, self.widen.weight * share, self.widen.bias * share, readout)  # type: ignore[arg-type]


class _Refinement(BoundaryRefinement):
    """Has its gradient in the layout of its maps, where its convolutions on a CPU would copy it into that one by one.

    A softmax over maps returns it contiguous, and adding the two layouts is slow. Nothing else changes: oneDNN's convolutions
    calculate in the maps' layout either way. Others do not, so not in float64, nor of one image, which may be too small for it.
    """

    def forward(self, maps: Tensor) -> Tensor:
        refined = super().forward(maps)
        if (
            torch.is_grad_enabled()
            and refined.requires_grad
            and refined.device.type == "cpu"
            and refined.dtype in (torch.float32, torch.bfloat16)
            and torch.backends.mkldnn.is_available()
            and len(refined) > 1
            and refined.is_contiguous(memory_format=torch.channels_last)
            and not refined.is_contiguous()
        ):
            refined.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return refined


class _Gathering(nn.Module):
    """SEB's convolutions, those of one high-level map together."""

    levels: tuple[int, ...]
    guides: nn.ModuleDict

    def convolve(self, maps: list[Tensor]) -> list[list[Tensor]]:
        guides: dict[int, list[Tensor]] = {low: [] for low in self.levels}
        for place, (high, high_map) in enumerate(zip(self.levels, maps, strict=True)):
            convolutions = [self.guides[f"res{high}_to_res{low}"] for low in self.levels[:place]]
            for low, guide in zip(self.levels, convolve_each(high_map, convolutions), strict=False):  # type: ignore[arg-type]
                guides[low].append(guide)
        return [*guides.values()]


class _GatheringProduct(_Gathering, ProductEmbedding):
    pass


class _GatheringSum(_Gathering, SumEmbedding):
    pass


class _GatheringGate(_Gathering, GateEmbedding):
    pass


class _GatheringConcat(_Gathering, ConcatEmbedding):
    pass


_FORMS: dict[type[nn.Module], type[nn.Module]] = {
    AdjacentPrediction: _Adjacent,
    WideControl: _Control,
    WideKernel: _Kernel,
    LastBlockPrediction: LastBlock,
    BoundaryRefinement: _Refinement,
    ProductEmbedding: _GatheringProduct,
    SumEmbedding: _GatheringSum,
    GateEmbedding: _GatheringGate,
    ConcatEmbedding: _GatheringConcat,
}
