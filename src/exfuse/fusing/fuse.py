"""From a trained segmenter to an equivalent one that is faster to evaluate."""

import copy

import torch
from torch import nn
from torch.fx.proxy import TraceError

from exfuse.fusing.convolution import FusedConvolution, as_convolution, fastest
from exfuse.fusing.graph import Make, fuse_graph, is_foreign
from exfuse.fusing.training import LastBlock, OpenDecoder, accelerate
from exfuse.models.decoder import Decoder
from exfuse.models.segmenter import Segmenter
from exfuse.techniques.embedding_branch import FusingEmbedding, ScaledConvolution


@torch.no_grad()
def fuse(model: Segmenter, portable: bool = False) -> Segmenter:
    """An equivalent of a trained model that is faster to evaluate, to 1e-4 relative in float32.

    Batch norms are folded into convolutions, additions and activations into the convolutions before them, and DAP takes the
    forms of training. Modules that no fold knows, and those of other code, stay as they are.

    Args:
        model: any variant; it stays as it is and shares no memory with the result.
        portable: use torch's plain operators alone, layer after layer, for export. Otherwise linear layers become one as in
            training, and a model on the CPU gets convolutions packed for its kernels.

    Returns:
        The equivalent in evaluation mode, its weights channels-last and without gradients; it is never to be trained. Scores
        that are to be recorded should come from ``model`` itself: theirs differ in rounding.
    """
    model = accelerate(copy.deepcopy(model)).to(memory_format=torch.channels_last).eval()
    make: Make = FusedConvolution if portable else fastest
    slots = dict(model.named_children())
    if isinstance(model.decoder, Decoder) and not is_foreign(model.decoder):
        _fuse_decoder(model.decoder, make)
        del slots["decoder"]
        if isinstance(model.decoder, OpenDecoder):
            del slots["head"]  # takes what no graph does
    for name, slot in slots.items():
        setattr(model, name, _fused(slot, make))
    return model.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _fuse_decoder(decoder: Decoder, make: Make) -> None:
    """In place. The last step is left as it is where the head composes itself with it."""
    decoder.run = lambda block, *arguments: block(*arguments)  # nothing is kept that checkpointing could spare
    if make is FusedConvolution:
        decoder.__class__ = Decoder
    elif isinstance(decoder, OpenDecoder):
        decoder.composes = True
    for blocks in (decoder.lateral, decoder.upsamplings, decoder.refinements):
        for name, block in [*blocks.named_children()]:
            if block not in (decoder.upsamplings[-1], decoder.refinements[-1]) or not isinstance(decoder, OpenDecoder):
                setattr(blocks, name, _fused(block, make))


def _fused(module: nn.Module, make: Make) -> nn.Module:
    """A module or an equivalent of it, made from its own layers."""
    if is_foreign(module):
        return module
    if isinstance(module, LastBlock) and make is not FusedConvolution:
        module.composes = True
        return module
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
