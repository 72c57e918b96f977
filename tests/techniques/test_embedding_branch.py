import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from exfuse.techniques.embedding_branch import (
    ConcatEmbedding,
    GateEmbedding,
    NoEmbedding,
    ProductEmbedding,
    SumEmbedding,
)

CHANNELS = {2: 3, 3: 4, 4: 5, 5: 6}
ODD = {2: (25, 33), 3: (13, 17), 4: (7, 9), 5: (4, 5)}  # of an image of 97 x 131
EVEN = {2: (16, 24), 3: (8, 12), 4: (4, 6), 5: (2, 3)}
FUSING = (ProductEmbedding, SumEmbedding, GateEmbedding, ConcatEmbedding)


def bilinear(x, size):
    """Bilinear resizing of a (B, C, H, W) array with half-pixel centres, output pixel by output pixel."""
    (height, width), out = x.shape[2:], np.zeros((*x.shape[:2], *size))
    for row, col in itertools.product(range(size[0]), range(size[1])):
        y = min(max((row + 0.5) * height / size[0] - 0.5, 0), height - 1)
        z = min(max((col + 0.5) * width / size[1] - 0.5, 0), width - 1)
        top, left = math.floor(y), math.floor(z)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = (1 - (z - left)) * x[:, :, top, left] + (z - left) * x[:, :, top, right]
        lower = (1 - (z - left)) * x[:, :, bottom, left] + (z - left) * x[:, :, bottom, right]
        out[:, :, row, col] = (1 - (y - top)) * upper + (y - top) * lower
    return out


def embedding_and_maps(option, levels, sizes, start=False):
    """An embedding, at its start or with weights of some size, and random maps for it; all float64."""
    torch.manual_seed(0)
    embedding = option(channels=[CHANNELS[level] for level in levels], levels=levels).double()
    if not start:
        for parameter in embedding.parameters():
            parameter.data = 0.4 * torch.randn_like(parameter)
    return embedding, [torch.randn(2, CHANNELS[level], *sizes[level], dtype=torch.float64) for level in levels]


def guides_by_figure_4(embedding, levels, maps):
    """For each level, every deeper map after its own 3x3 convolution and bilinear upsampling, shallow to deep."""
    guides = {level: [] for level in levels}
    for (low, low_map), (high, high_map) in itertools.combinations(zip(levels, maps, strict=True), 2):
        convolution = embedding.guides[f"res{high}_to_res{low}"]
        assert convolution.weight.shape == (CHANNELS[low], CHANNELS[high], 3, 3)
        convolved = F.conv2d(high_map, convolution.weight, convolution.bias, padding=1)
        guides[low].append(torch.from_numpy(bilinear(convolved.detach().numpy(), low_map.shape[2:])))
    return guides


def fused(option, embedding, level, low, guides):
    """What each option makes of one low-level map and its guides, written out."""
    if option is ProductEmbedding:
        return low * math.prod(guides)
    if option is SumEmbedding:
        return low + sum(guides)
    if option is GateEmbedding:
        return low * math.prod(1 / (1 + torch.exp(-guide)) for guide in guides)
    reduce = embedding.reduce[f"res{level}"]
    stacked = torch.cat([low, *guides], 1)
    return torch.einsum("oi,bihw->bohw", reduce.weight[:, :, 0, 0], stacked) + reduce.bias[:, None, None]


@pytest.mark.parametrize("option", FUSING)
@pytest.mark.parametrize(
    ("levels", "wiring"),
    [
        ((2, 3, 4, 5), {(3, 2), (4, 2), (5, 2), (4, 3), (5, 3), (5, 4)}),
        ((3, 4, 5), {(4, 3), (5, 3), (5, 4)}),
        ((4, 5), {(5, 4)}),
        ((5,), set()),
    ],
    ids=str,
)
def test_each_level_is_guided_by_all_deeper_ones_and_by_no_other(option, levels, wiring):
    embedding, maps = embedding_and_maps(option, levels, EVEN)
    assert set(embedding.guides) == {f"res{high}_to_res{low}" for high, low in wiring}
    for entering in maps:
        entering.requires_grad_()
    for low, embedded in zip(levels, embedding(maps), strict=True):
        gradients = torch.autograd.grad(embedded.sum(), maps, allow_unused=True)
        felt = {level for level, gradient in zip(levels, gradients, strict=True) if gradient is not None}
        assert felt == {low} | {high for high, guided in wiring if guided == low}


@pytest.mark.parametrize("sizes", [ODD, EVEN], ids=["odd", "even"])
@pytest.mark.parametrize("levels", [(2, 3, 4, 5), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("option", FUSING)
def test_embedding_equals_figure_4_written_out(option, levels, sizes):
    embedding, maps = embedding_and_maps(option, levels, sizes)
    guides = guides_by_figure_4(embedding, levels, maps)
    for level, low, embedded in zip(levels[:-1], maps, embedding(maps), strict=False):
        torch.testing.assert_close(embedded, fused(option, embedding, level, low, guides[level]))


@pytest.mark.parametrize("option", [*FUSING, NoEmbedding])
def test_res5_stays_as_it_is(option):
    for levels in ((2, 3, 4, 5), (5,)):
        embedding, maps = embedding_and_maps(option, levels, ODD)
        assert embedding(maps)[-1] is maps[-1]


def test_no_embedding_hands_every_level_through_without_parameters():
    embedding, maps = embedding_and_maps(NoEmbedding, (2, 3, 4, 5), ODD)
    assert all(after is before for after, before in zip(embedding(maps), maps, strict=True))
    assert list(embedding.parameters()) == []


@pytest.mark.parametrize("option", [ProductEmbedding, SumEmbedding])
def test_low_level_maps_start_nearly_unchanged(option):
    embedding, maps = embedding_and_maps(option, (2, 3, 4, 5), EVEN, start=True)
    for before, after in zip(maps[:-1], embedding(maps), strict=False):
        change = (after - before).square().mean().sqrt() / before.square().mean().sqrt()
        assert 0 < change < 0.25


def test_gates_start_nearly_open_and_only_weaken():
    levels = (2, 3, 4, 5)
    embedding, maps = embedding_and_maps(GateEmbedding, levels, EVEN, start=True)
    for guides, before, after in zip((3, 2, 1), maps, embedding(maps), strict=False):
        torch.testing.assert_close((after / before).mean().item(), (1 / (1 + math.exp(-2))) ** guides, rtol=0.05, atol=0)
    embedding, maps = embedding_and_maps(GateEmbedding, levels, EVEN)
    for before, after in zip(maps[:-1], embedding(maps), strict=False):
        assert (after.abs() < before.abs()).all()
        assert (after.sign() == before.sign()).all()


def test_levels_and_channels_must_agree_in_number():
    with pytest.raises(ValueError, match="shorter"):
        ProductEmbedding(channels=[3, 4], levels=[3, 4, 5])
