"""ExFuse's layers in the straightforward order, one after the other: what the fast forms are held against."""

from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.models.segmenter import Prediction, Segmenter
from exfuse.techniques.adjacent_prediction import AdjacentPrediction, shifted_mean
from exfuse.techniques.embedding_branch import ProductEmbedding


def plain_forward(model: Segmenter, image: Tensor) -> Prediction:
    """What a `Segmenter` in training mode gives, its modules called as the papers' figures draw them.

    Args:
        model: with SEB's product or without SEB, and any head.
        image: (B, 3, H, W).
    """
    levels = model.encoder(image)
    if isinstance(model.embedding, ProductEmbedding):
        levels = plain_product(model.embedding, levels)
    maps, first = model.decoder(levels, image.shape[-2:])
    auxiliary = {name: plain_head(model.head, first, True) for name in model.auxiliary_weights}
    return Prediction(plain_head(model.head, maps, False), auxiliary)


def plain_product(embedding: ProductEmbedding, maps: list[Tensor]) -> list[Tensor]:
    """SEB's figure 4, guide by guide: 3x3 convolution, bilinear upsampling, product."""
    embedded = []
    for position, (low, low_map) in enumerate(zip(embedding.levels, maps, strict=True)):
        product = low_map
        for high, high_map in zip(embedding.levels[position + 1 :], maps[position + 1 :], strict=True):
            guide = embedding.guides[f"res{high}_to_res{low}"](high_map)
            product = product * F.interpolate(guide, low_map.shape[-2:], mode="bilinear")
        embedded.append(product)
    return embedded


def upsampling_first(embedding: ProductEmbedding, maps: list[Tensor]) -> list[Tensor]:
    """Not the paper's function: SEB's layers with the upsampling before the convolution, which is what must not be paid for."""
    embedded = []
    for position, (low, low_map) in enumerate(zip(embedding.levels, maps, strict=True)):
        product = low_map
        for high, high_map in zip(embedding.levels[position + 1 :], maps[position + 1 :], strict=True):
            enlarged = F.interpolate(high_map, low_map.shape[-2:], mode="bilinear")
            product = product * embedding.guides[f"res{high}_to_res{low}"](enlarged)
        embedded.append(product)
    return embedded


def plain_head(head: nn.Module, maps: Tensor, auxiliary: bool) -> Tensor:
    """A head's forward or auxiliary, DAP by padding and slicing."""
    if isinstance(head, AdjacentPrediction):
        return shifted_mean(maps, head.classes, head.window)
    if auxiliary:
        return head.auxiliary(maps)  # type: ignore[operator]
    adjacent = getattr(head, "adjacent", None)
    return head(maps) if adjacent is None else shifted_mean(head.widen(maps), adjacent.classes, adjacent.window)  # type: ignore[operator]
