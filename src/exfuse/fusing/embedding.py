"""SEB's convolutions, and the concatenating control without its concatenation."""

import copy
import functools
import operator

from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.fusing.graph import Make
from exfuse.fusing.linear import as_convolution, compose
from exfuse.techniques.embedding_branch import ConcatEmbedding


def fuse_embedding(embedding: nn.Module, make: Make) -> nn.Module:
    """The embedding with each of its convolutions made anew; `ConcatEmbedding` becomes a `ComposedConcat`."""
    if isinstance(embedding, ConcatEmbedding):
        return ComposedConcat(embedding, make)
    fused = copy.deepcopy(embedding)
    for parent in [*fused.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, make(child, None))
    return fused


class ComposedConcat(nn.Module):
    """`ConcatEmbedding` as a sum: its 1x1 convolution is split over what it concatenates.

    A 1x1 convolution and a bilinear upsampling may change places, so each high-level map's part is composed with the 3x3
    convolution before it, at the high level's size, and C concatenated maps never stand at the low level's size.

    Shapes:
        as `ConcatEmbedding`.
    """

    def __init__(self, embedding: ConcatEmbedding, make: Make) -> None:
        super().__init__()
        self.levels = embedding.levels
        self.low, self.guides = nn.ModuleDict(), nn.ModuleDict()
        for position, low in enumerate(self.levels[:-1]):
            reduce = embedding.reduce[f"res{low}"]
            assert isinstance(reduce, nn.Conv2d)
            width = reduce.out_channels
            own, *others = reduce.weight.detach().split(width, 1)
            bias = reduce.bias.detach() if reduce.bias is not None else own.new_zeros(width)
            self.low[f"res{low}"] = make(as_convolution(own, bias), None)
            for high, part in zip(self.levels[position + 1 :], others, strict=True):
                guide = embedding.guides[f"res{high}_to_res{low}"]
                assert isinstance(guide, nn.Conv2d)
                assert guide.bias is not None
                kernel, shift = compose(guide.weight.detach(), part), part[..., 0, 0] @ guide.bias.detach()
                self.guides[f"res{high}_to_res{low}"] = make(as_convolution(kernel, shift), None)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        embedded = []
        for position, (low, low_map) in enumerate(zip(self.levels[:-1], maps[:-1], strict=True)):
            guides = [
                F.interpolate(self.guides[f"res{high}_to_res{low}"](high_map), low_map.shape[-2:], mode="bilinear")
                for high, high_map in zip(self.levels[position + 1 :], maps[position + 1 :], strict=True)
            ]
            embedded.append(self.low[f"res{low}"](low_map, functools.reduce(operator.add, guides)))
        return [*embedded, maps[-1]]
