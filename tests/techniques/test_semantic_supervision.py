import pytest
import torch
from torch.nn import functional as F

from exfuse.composition.segmentation import build_model
from exfuse.techniques.semantic_supervision import SecondConvFeatures, SemanticBranches, StageTails


def image(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def normalised_and_rectified(maps, norm):
    """Batch norm with running statistics, then ReLU, written out."""
    mean, variance, scale, shift = (
        statistic[:, None, None] for statistic in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return ((maps - mean) / (variance + norm.eps).sqrt() * scale + shift).clamp(min=0)


def test_removed_heads_leave_exactly_the_model_without_supervision(compose_config):
    none = build_model(compose_config("technique/ss=none"), 5)
    removed = build_model(compose_config("technique/ss=heads_removed"), 5)
    assert isinstance(none.encoder, StageTails)
    assert (none.encoder.supervised, removed.encoder.supervised) == (False, True)
    before, after = none.state_dict(), removed.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_supervision_segmentation_reads_the_stages_tails(compose_config):
    encoder = build_model(compose_config("technique/ss=none"), 5).encoder.eval()
    tails = []
    for stage in range(1, 5):
        encoder.backbone.features.get_submodule(f"layer{stage}").register_forward_hook(lambda *call: tails.append(call[-1]))
    maps = encoder(image(65, 97))
    assert len(maps) == 4
    assert all(torch.equal(level, tail) for level, tail in zip(maps, tails, strict=True))


@pytest.mark.parametrize(("ratio", "least", "expected"), [(0.25, 16, (16, 16, 16, 32)), (0.5, 4, (8, 16, 32, 64))])
def test_kept_branches_give_the_decoder_narrower_maps(compose_config, ratio, least, expected):
    model = build_model(
        compose_config(
            "technique/ss=second_conv_features",
            f"technique.ss.width_ratio={ratio}",
            f"technique.ss.minimum_width={least}",
            "technique/seb=product",
        ),
        5,
    )
    assert model.encoder.backbone.channels == (16, 32, 64, 128)
    assert model.encoder.channels == expected
    assert tuple(level.shape[1] for level in model.encoder(image(65, 97))) == expected
    assert tuple(lateral[0].tall_flat[0].in_channels for lateral in model.decoder.lateral.values()) == expected
    guide = model.embedding.guides["res5_to_res2"]
    assert (guide.in_channels, guide.out_channels) == (expected[3], expected[0])


def test_kept_features_are_those_of_the_second_3x3_convolution(compose_config):
    encoder = build_model(compose_config("technique/ss=second_conv_features"), 5).encoder.double().eval()
    assert isinstance(encoder, SecondConvFeatures)
    torch.manual_seed(0)
    for module in encoder.branches.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for statistic in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                statistic.uniform_(0.2, 2.0)
    picture = image(65, 97).double()
    for level, tail, kept in zip(encoder.levels, encoder.backbone(picture), encoder(picture), strict=True):
        first, first_norm, _, second, second_norm, _ = encoder.branches[f"res{level}"]
        assert first.weight.shape[2:] == second.weight.shape[2:] == (3, 3)
        hidden = normalised_and_rectified(F.conv2d(tail, first.weight, padding=1), first_norm)
        expected = normalised_and_rectified(F.conv2d(hidden, second.weight, padding=1), second_norm)
        assert expected.std() > 0
        torch.testing.assert_close(kept, expected)


def test_branches_exist_for_the_levels_in_use_alone(compose_config):
    model = build_model(compose_config("technique/ss=second_conv_features", "decoder=levels_45"), 5)
    assert list(model.encoder.branches) == ["res4", "res5"]


def test_a_branch_is_two_convolutions_a_global_pool_and_two_fully_connected_layers():
    branches = SemanticBranches([4, 5], [12, 20], classes=3, width_ratio=0.5, minimum_width=8, hidden=5).double().eval()
    maps = [torch.randn(2, channels, 7, 9, dtype=torch.float64) for channels in (12, 20)]
    scores = branches(maps)
    assert list(scores) == ["res4", "res5"]
    for name, level, width in (("res4", maps[0], 8), ("res5", maps[1], 10)):
        first, norm, _, second, second_norm, _ = branches.convolutions[name]
        assert first.out_channels == second.out_channels == width
        hidden = normalised_and_rectified(F.conv2d(level, first.weight, padding=1), norm)
        hidden = normalised_and_rectified(F.conv2d(hidden, second.weight, padding=1), second_norm)
        _, _, inner, _, outer = branches.classifiers[name]
        pooled = hidden.mean((2, 3)) @ inner.weight.T + inner.bias
        torch.testing.assert_close(scores[name], pooled.clamp(min=0) @ outer.weight.T + outer.bias)


def test_what_pretraining_leaves_is_what_segmentation_reads(compose_config):
    encoder = build_model(compose_config("technique/ss=second_conv_features", "decoder=levels_45"), 5).encoder.eval()
    trained = SemanticBranches((2, 3, 4, 5), (16, 32, 64, 128), classes=3, width_ratio=0.25, minimum_width=16, hidden=8)
    encoder.load_branches(trained.convolutions.state_dict())
    maps = encoder.backbone(image(64, 64))
    expected = [trained.eval().convolutions[name](level) for name, level in zip(("res4", "res5"), maps, strict=True)]
    assert all(torch.equal(level, kept) for level, kept in zip(expected, encoder(image(64, 64)), strict=True))
