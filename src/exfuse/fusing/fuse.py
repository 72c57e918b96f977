"""From a trained segmenter to an equivalent one that is faster to evaluate."""

import copy

import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError

from exfuse.fusing.adjacent import ComposedLastBlock
from exfuse.fusing.convolution import FusedConvolution
from exfuse.fusing.crop import crop, divided
from exfuse.fusing.embedding import fuse_embedding
from exfuse.fusing.graph import Make, fuse_graph
from exfuse.fusing.heads import readout_of
from exfuse.fusing.packed import PackedConvolution
from exfuse.fusing.tail import FoldedTail
from exfuse.models.decoder import Decoder
from exfuse.models.gcn import BoundaryRefinement
from exfuse.models.segmenter import Prediction, Segmenter
from exfuse.models.upsample import Deconvolution
from exfuse.techniques.adjacent_prediction import LastBlockPrediction


class FusedSegmenter(Segmenter):
    """What `fuse` returns: a `Segmenter` to evaluate, never to train.

    Its decoder gives the map that the tail makes scores of; a fold may move layers from the one to the other.

    Shapes:
        input (B, 3, H, W) of any size; output a `Prediction` at that size, without auxiliary scores.
    """

    def __init__(self, encoder: nn.Module, embedding: nn.Module, decoder: nn.Module, tail: nn.Module) -> None:
        nn.Module.__init__(self)  # a Segmenter's own would ask the decoder for its auxiliary loss
        self.encoder, self.embedding, self.tail = encoder, embedding, tail
        self.decoder = decoder  # type: ignore[assignment]  # in the place of a `Decoder`
        self.auxiliary_weights = {}

    def forward(self, image: Tensor) -> Prediction:
        size = image.shape[-2], image.shape[-1]
        maps = self.decoder(self.embedding(self.encoder(image)), size)
        return Prediction(self.tail(maps, size), {})


class FusedDecoder(nn.Module):
    """The decoder up to the last upsampling: from one map per level and the image's (H, W) to a map of half that size."""

    def __init__(self, decoder: Decoder, make: Make) -> None:
        super().__init__()
        self.lateral = nn.ModuleDict({name: _fused(lateral, make) for name, lateral in decoder.lateral.items()})
        self.upsamplings = nn.ModuleList(_fused(upsampling, make) for upsampling in decoder.upsamplings[:-1])
        self.refinements = nn.ModuleList(_fused(refinement, make) for refinement in decoder.refinements[:-1])
        self.strides = decoder.strides[:-1]

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        laterals = [lateral(level) for lateral, level in zip(self.lateral.values(), maps, strict=True)]
        scores, skips = laterals[-1], laterals[-2::-1]  # deepest first
        for step, (upsampling, refinement, stride) in enumerate(
            zip(self.upsamplings, self.refinements, self.strides, strict=True)
        ):
            scores = crop(upsampling(scores), *divided(size, stride))
            scores = refinement(scores + skips[step] if step < len(skips) else scores)
        return scores


class PlainTail(nn.Module):
    """The last upsampling, its BR and the head: (B, D, h, w) and the image's (H, W) -> (B, C, H, W)."""

    def __init__(self, upsampling: nn.Module, refinement: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.upsampling, self.refinement, self.head = upsampling, refinement, head

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        return self.head(self.refinement(crop(self.upsampling(maps), *size)))


class WholeDecoder(nn.Module):
    """A decoder that is not U-shaped: its own layers, the first of its two outputs."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        return self.decoder(maps, size)[0]


class HeadAlone(nn.Module):
    """The head behind a decoder that already gives maps of the image's size."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:  # noqa: ARG002 - one signature for all
        return self.head(maps)


@torch.no_grad()
def fuse(model: Segmenter, portable: bool = False) -> FusedSegmenter:
    """An equivalent of a trained model that is faster to evaluate, to 1e-4 relative in float32.

    Batch norms are folded into convolutions and DAP into the convolutions before it; where linear layers follow one another,
    they become one if that saves time. Modules that no fold knows stay as they are.

    Args:
        model: any variant; it stays as it is and shares no memory with the result.
        portable: use torch's plain operators alone, for export and other devices. Otherwise a model on the CPU gets
            convolutions packed for its kernels, which cannot be exported.

    Returns:
        The equivalent in evaluation mode, its weights channels-last and without gradients. Scores that are to be recorded
        should come from ``model`` itself: theirs differ in rounding.
    """
    model = copy.deepcopy(model).to(memory_format=torch.channels_last).eval()
    make: Make = FusedConvolution if portable else _fastest
    decoder, tail = _fused_parts(model.decoder, model.head, make)
    fused = FusedSegmenter(_fused(model.encoder, make), fuse_embedding(model.embedding, make), decoder, tail)
    return fused.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _fastest(convolution: nn.Conv2d, activation: nn.Module | None) -> FusedConvolution:
    kind = PackedConvolution if PackedConvolution.fits(convolution, activation) else FusedConvolution
    return kind(convolution, activation)


def _fused(module: nn.Module, make: Make) -> nn.Module:
    try:
        return fuse_graph(module, make)
    except TraceError:  # its calls depend on the input: it stays as it is
        return module


def _fused_parts(decoder: nn.Module, head: nn.Module, make: Make) -> tuple[nn.Module, nn.Module]:
    """The decoder and the tail, see `FusedSegmenter`."""
    if not isinstance(decoder, Decoder):
        for name, child in decoder.named_children():
            setattr(decoder, name, _fused(child, make))
        return WholeDecoder(decoder), HeadAlone(_fused_head(head, make))
    upsampling, refinement = decoder.upsamplings[-1], decoder.refinements[-1]
    assert isinstance(refinement, BoundaryRefinement)
    layer = upsampling.layer if isinstance(upsampling, Deconvolution) else None
    if isinstance(layer, nn.ConvTranspose2d) and readout_of(head) is not None:
        return FusedDecoder(decoder, make), FoldedTail(layer, refinement, head, make)
    tail = PlainTail(_fused(upsampling, make), _fused(refinement, make), _fused_head(head, make))
    return FusedDecoder(decoder, make), tail


def _fused_head(head: nn.Module, make: Make) -> nn.Module:
    if isinstance(head, LastBlockPrediction) and (readout := readout_of(head.adjacent)) is not None:
        return ComposedLastBlock(head.widen, readout, make)
    return _fused(head, make)
