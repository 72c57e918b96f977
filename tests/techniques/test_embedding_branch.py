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
    take_unscaled,
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
    """For each level, every deeper map after its own 3x3 convolution, its kernel scaled by the fan-in, and bilinear upsampling,
    shallow to deep."""
    guides = {level: [] for level in levels}
    for (low, low_map), (high, high_map) in itertools.combinations(zip(levels, maps, strict=True), 2):
        convolution = embedding.guides[f"res{high}_to_res{low}"]
        assert convolution.weight.shape == (CHANNELS[low], CHANNELS[high], 3, 3)
        kernel = convolution.weight / math.sqrt(9 * CHANNELS[high])
        convolved = F.conv2d(high_map, kernel, convolution.bias, padding=1)
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
    kernel = reduce.weight[:, :, 0, 0] / math.sqrt(stacked.shape[1])
    return low + torch.einsum("oi,bihw->bohw", kernel, stacked) + reduce.bias[:, None, None]


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


@pytest.mark.parametrize("option", FUSING)
@pytest.mark.parametrize("rms", [0.1, 1.0, 3.0, 10.0])
def test_low_level_maps_start_as_they_are_whatever_their_size(option, rms):
    embedding, maps = embedding_and_maps(option, (2, 3, 4, 5), EVEN, start=True)
    maps = [rms * level for level in maps]
    for before, after in zip(maps[:-1], embedding(maps), strict=False):
        change = (after - before).square().mean().sqrt() / before.square().mean().sqrt()
        assert change <= (0.06 if option is GateEmbedding else 0)


@pytest.mark.parametrize("option", FUSING)
def test_every_weight_of_a_start_from_zeros_learns(option):
    embedding, maps = embedding_and_maps(option, (2, 3, 4, 5), EVEN, start=True)
    before = {name: parameter.detach().clone() for name, parameter in embedding.named_parameters()}
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=1e-3)
    for step in range(2):  # of two layers in a row the second moves first
        loss = sum(
            ((1 + step) * after - low.roll(1, 1)).square().mean()
            for low, after in zip(maps, embedding(maps)[:-1], strict=False)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [name for name, parameter in embedding.named_parameters() if torch.equal(parameter, before[name])] == []


@pytest.mark.parametrize("rms", [1.0, 10.0])
def test_a_step_of_adam_moves_a_guide_alike_whatever_the_fan_in(rms):
    """As if all inputs pulled together: sqrt(fan-in) times the rate and the maps' size, not fan-in times."""
    moved = []
    for channels in (8, 512):
        embedding = ProductEmbedding(channels=[4, channels], levels=[4, 5])
        maps = [torch.ones(1, 4, 8, 8), torch.full((1, channels, 4, 4), rms)]
        optimizer = torch.optim.AdamW([embedding.guides["res5_to_res4"].weight], lr=1e-4)
        embedding(maps)[0].sum().backward()
        optimizer.step()
        moved.append(float((embedding(maps)[0].detach()[..., 3:5, 3:5] - 1).abs().mean()))
    assert moved[1] / moved[0] == pytest.approx(math.sqrt(512 / 8), rel=0.05)


def test_gates_start_nearly_open_and_only_weaken():
    levels = (2, 3, 4, 5)
    embedding, maps = embedding_and_maps(GateEmbedding, levels, EVEN, start=True)
    for guides, before, after in zip((3, 2, 1), maps, embedding(maps), strict=False):
        torch.testing.assert_close(after, before * (1 / (1 + math.exp(-4))) ** guides)
    embedding, maps = embedding_and_maps(GateEmbedding, levels, EVEN)
    for before, after in zip(maps[:-1], embedding(maps), strict=False):
        assert (after.abs() < before.abs()).all()
        assert (after.sign() == before.sign()).all()


@pytest.mark.parametrize("option", FUSING)
def test_weights_of_kernels_without_a_scale_become_the_same_function(option):
    """As figure 4 and its controls were: unscaled kernels, and a concatenation that is not added to the map."""
    levels = (2, 3, 4, 5)
    embedding, maps = embedding_and_maps(option, levels, EVEN)
    old = {f"embedding.{name}": parameter.detach().clone() for name, parameter in embedding.named_parameters()}
    expected = []
    for place, low in enumerate(maps[:-1]):
        guides = []
        for high in range(place + 1, 4):
            name = f"embedding.guides.res{levels[high]}_to_res{levels[place]}"
            guide = F.conv2d(maps[high], old[f"{name}.weight"], old[f"{name}.bias"], padding=1)
            guides.append(F.interpolate(guide, low.shape[-2:], mode="bilinear"))
        if option is ConcatEmbedding:
            name = f"embedding.reduce.res{levels[place]}"
            expected.append(F.conv2d(torch.cat([low, *guides], 1), old[f"{name}.weight"], old[f"{name}.bias"]))
        else:
            expected.append(fused(option, embedding, levels[place], low, guides))
    state = dict(old)
    take_unscaled(embedding, state, "embedding.")
    embedding.load_state_dict({name.removeprefix("embedding."): value for name, value in state.items()})
    torch.testing.assert_close(embedding(maps)[:-1], expected)


def test_levels_and_channels_must_agree_in_number():
    with pytest.raises(ValueError, match="shorter"):
        ProductEmbedding(channels=[3, 4], levels=[3, 4, 5])
