import math
from functools import partial

import pytest
import torch

from exfuse.models.decoder import Decoder
from exfuse.models.gcn import BoundaryRefinement, GlobalConvolution
from exfuse.models.upsample import Deconvolution
from exfuse.techniques.channel_resolution import deconvolution, subpixel

CHANNELS = {2: 3, 3: 4, 4: 5, 5: 6}
LEVELS = ((2, 3, 4, 5), (3, 4, 5), (4, 5), (5,))
SIZES = ((97, 131), (33, 65), (64, 96), (31, 1))


def decoder_of(levels, output_stride=32, width=2, first=deconvolution):
    torch.manual_seed(0)
    return Decoder(
        levels,
        channels=[CHANNELS[level] for level in levels],
        reductions=[min(2**level, output_stride) for level in levels],
        width=width,
        first_upsampling=partial(first, auxiliary_weight=0.0),
        kernel=3,
    )


def maps_of(image_size, levels, output_stride=32):
    generator = torch.Generator().manual_seed(1)
    strides = [min(2**level, output_stride) for level in levels]
    return [
        torch.randn(2, CHANNELS[level], *(math.ceil(side / stride) for side in image_size), generator=generator)
        for level, stride in zip(levels, strides, strict=True)
    ]


def blocks(decoder, kind):
    return sum(isinstance(module, kind) for module in decoder.modules())


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_blocks_are_the_papers_and_fewer_levels_cost_only_their_laterals(levels):
    decoder = decoder_of(levels)
    # four levels: 4 GCN blocks, 5 upsamplings, 9 BR blocks
    assert blocks(decoder, GlobalConvolution) == len(levels)
    assert blocks(decoder, Deconvolution) == 5
    assert blocks(decoder, BoundaryRefinement) == len(levels) + 5
    assert decoder.strides == [16, 8, 4, 2, 1]


@pytest.mark.parametrize(
    ("output_stride", "levels", "strides"),
    [
        (16, (2, 3, 4, 5), [16, 8, 4, 2, 1]),
        (16, (4, 5), [16, 8, 4, 2, 1]),
        (16, (5,), [8, 4, 2, 1]),
        (8, (2, 3, 4, 5), [8, 8, 4, 2, 1]),
        (8, (3, 4, 5), [8, 8, 4, 2, 1]),
        (8, (5,), [4, 2, 1]),
    ],
    ids=str,
)
def test_dilated_levels_of_one_size_are_added_without_enlarging(output_stride, levels, strides):
    decoder = decoder_of(levels, output_stride)
    assert decoder.strides == strides
    scales = [2 if upsampling(torch.zeros(1, 2, 3, 3)).shape[-1] == 6 else 1 for upsampling in decoder.upsamplings]
    assert scales == [deep // shallow for deep, shallow in zip([output_stride, *strides], strides, strict=False)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("levels", LEVELS, ids=str)
@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("first", [deconvolution, subpixel])
def test_output_has_exactly_the_images_size(first, output_stride, levels, size):
    decoder = decoder_of(levels, output_stride, first=first)
    scores, first_scores = decoder(maps_of(size, levels, output_stride), size)
    assert scores.shape == (2, 2, *size)
    assert first_scores.shape == (2, 2, *(math.ceil(side / decoder.strides[0]) for side in size))
    assert scores.isfinite().all()
    assert scores[:, :, -1, -1].abs().min() > 0  # the last row and column are predicted, not padded


def test_decoder_equals_figure_2_written_out():
    levels, size = (2, 3, 4, 5), (97, 131)
    decoder, maps = decoder_of(levels), maps_of(size, levels)
    res2, res3, res4, res5 = (
        decoder.lateral[f"res{level}"][1](decoder.lateral[f"res{level}"][0](level_map))
        for level, level_map in zip(levels, maps, strict=True)
    )
    up, refine = decoder.upsamplings, decoder.refinements
    first = up[0](res5)[:, :, :7, :9]
    to_8 = up[1](refine[0](first + res4))[:, :, :13, :17]
    to_4 = up[2](refine[1](to_8 + res3))[:, :, :25, :33]
    to_2 = up[3](refine[2](to_4 + res2))[:, :, :49, :66]
    to_1 = up[4](refine[3](to_2))[:, :, :97, :131]
    scores, first_scores = decoder(maps, size)
    torch.testing.assert_close(scores, refine[4](to_1))
    torch.testing.assert_close(first_scores, first)


def test_every_level_reaches_every_corner_of_the_scores():
    levels, size = (2, 3, 4, 5), (97, 131)
    decoder, maps = decoder_of(levels), maps_of(size, levels)
    for level in maps:
        level.requires_grad_()
    scores, _ = decoder(maps, size)
    for row in (0, -1):
        for column in (0, -1):
            gradients = torch.autograd.grad(scores[0, :, row, column].sum(), maps, retain_graph=True)
            assert all(gradient[0, :, row, column].abs().max() > 0 for gradient in gradients)
            assert all(gradient[1].abs().max() == 0 for gradient in gradients)  # images do not mix
