"""From a trained segmenter to an equivalent one that is faster to evaluate."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError

from exfuse.fusing.convolution import FusedConvolution, fastest
from exfuse.fusing.graph import Make, fuse_graph, is_foreign
from exfuse.fusing.heads import ComposedLastBlock, FoldedTail, cut, readout_of
from exfuse.fusing.linear import as_convolution
from exfuse.models.decoder import Decoder
from exfuse.models.gcn import BoundaryRefinement
from exfuse.models.segmenter import Segmenter
from exfuse.models.upsample import Deconvolution
from exfuse.techniques.adjacent_prediction import LastBlockPrediction
from exfuse.techniques.embedding_branch import FusingEmbedding, ScaledConvolution


@torch.no_grad()
def fuse(model: Segmenter, portable: bool = False) -> Segmenter:
    """An equivalent of a trained model that is faster to evaluate, to 1e-4 relative in float32.

    Batch norms are folded into convolutions and DAP into the convolutions before it; where linear layers follow one another,
    they become one if that saves time. Modules that no fold knows, and those of other code, stay as they are.

    Args:
        model: any variant; it stays as it is and shares no memory with the result.
        portable: use torch's plain operators alone, for export and other devices. Otherwise a model on the CPU gets
            convolutions packed for its kernels, which cannot be exported.

    Returns:
        The equivalent in evaluation mode, its weights channels-last and without gradients; it is never to be trained. Scores
        that are to be recorded should come from ``model`` itself: theirs differ in rounding.
    """
    model = copy.deepcopy(model).to(memory_format=torch.channels_last).eval()
    make: Make = FusedConvolution if portable else fastest
    if isinstance(model.decoder, Decoder) and not is_foreign(model.decoder):
        _fuse_decoder(model, make)
    for name, slot in [*model.named_children()]:
        setattr(model, name, _fused(slot, make))
    return model.to(memory_format=torch.channels_last).eval().requires_grad_(False)


class FusedDecoder(Decoder):
    """A decoder whose blocks are fused. If ``folded``, its last step belongs to the head, to which it gives (maps, size)."""

    folded: bool

    def finish(self, scores: Tensor, size: tuple[int, int]) -> Any:
        return (scores, size) if self.folded else super().finish(scores, size)

    def cut(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        return cut(maps, *size)


def _fuse_decoder(model: Segmenter, make: Make) -> None:
    """In place; a head that is linear becomes one with the last step."""
    decoder, head = model.decoder, model.head
    assert isinstance(decoder, Decoder)
    upsampling, refinement = decoder.upsamplings[-1], decoder.refinements[-1]
    assert isinstance(upsampling, Deconvolution)
    assert isinstance(refinement, BoundaryRefinement)
    readout = None if is_foreign(head) else readout_of(head, upsampling.layer.weight)
    decoder.__class__ = FusedDecoder
    decoder.folded = readout is not None  # type: ignore[assignment]
    decoder.run = lambda block, *arguments: block(*arguments)  # nothing is kept that checkpointing could spare
    if readout is not None:
        model.head = FoldedTail(upsampling.layer, refinement, head, readout, make)  # type: ignore[arg-type]
        del decoder.upsamplings[-1], decoder.refinements[-1]
    for blocks in (decoder.lateral, decoder.upsamplings, decoder.refinements):
        for name, block in [*blocks.named_children()]:
            setattr(blocks, name, _fused(block, make))


def _fused(module: nn.Module, make: Make) -> nn.Module:
    """A module or an equivalent of it, made from its own layers."""
    if isinstance(module, (FoldedTail, FusedDecoder)) or is_foreign(module):
        return module
    if isinstance(module, LastBlockPrediction) and (readout := readout_of(module.adjacent, module.widen.weight)) is not None:
        return ComposedLastBlock(module.widen, readout, make)
    if isinstance(module, FusingEmbedding):
        for parent in [*module.modules()]:
            for name, child in parent.named_children():
                if isinstance(child, ScaledConvolution):
                    assert child.bias is not None
                    setattr(parent, name, make(as_convolution(child.weight * child.scale, child.bias), None))
        return module
    try:
        return fuse_graph(module, make)
    except TraceError:  # its calls depend on the input: it stays as it is
        return module
