from functools import partial

import pytest
import torch

from exfuse.composition.pretraining import build_classifier_model
from exfuse.models.backbone import Backbone
from exfuse.models.classifier import build_classifier
from exfuse.runs.costs import count_cost
from exfuse.store.description import is_supervised
from exfuse.techniques.semantic_supervision import SemanticBranches

TINY = {"layers": [1, 1, 2, 1], "channels": [8, 8, 16, 16], "stem_width": 8}
BRANCHES = partial(SemanticBranches, width_ratio=0.5, minimum_width=4, hidden=6)


def tiny():
    return Backbone("resnet18", arguments=TINY)


def test_head_and_every_branch_score_every_class_and_get_a_gradient():
    model = build_classifier(tiny(), BRANCHES, classes=7, seed=0)
    scores = model(torch.randn(2, 3, 65, 97))
    assert list(scores.branches) == ["res2", "res3", "res4", "res5"]
    assert {scores.main.shape, *(branch.shape for branch in scores.branches.values())} == {(2, 7)}
    (scores.main.sum() + sum(branch.sum() for branch in scores.branches.values())).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_head_reads_the_mean_of_res5():
    model = build_classifier(tiny(), None, classes=7, seed=0).eval()
    image = torch.randn(2, 3, 64, 64)
    pooled = model.backbone(image)[-1].flatten(2).mean(2)
    torch.testing.assert_close(model(image).main, pooled @ model.head.weight.T + model.head.bias)
    assert model(image).branches == {}


def test_with_and_without_branches_backbone_and_head_start_the_same():
    plain = build_classifier(tiny(), None, classes=7, seed=3).state_dict()
    supervised = build_classifier(tiny(), BRANCHES, classes=7, seed=3).state_dict()
    assert plain.keys() < supervised.keys()
    assert all(torch.equal(value, supervised[name]) for name, value in plain.items())
    other = build_classifier(tiny(), None, classes=7, seed=4).state_dict()
    assert not torch.equal(other["head.weight"], plain["head.weight"])


@pytest.mark.parametrize(("option", "expected"), [("none", False), ("heads_removed", True), ("second_conv_features", True)])
def test_the_option_of_ss_says_whether_its_backbone_has_branches(compose_config, option, expected):
    config = compose_config(f"technique/ss={option}")
    assert is_supervised(config) is expected
    assert (build_classifier_model(config, 3).branches is not None) is expected


@pytest.mark.parametrize("backbone", ["resnet50", "resnext101_32x4d", "efficientnet_lite0", "resnet_tiny"])
def test_every_encoder_can_be_supervised(compose_config, backbone):
    config = compose_config(f"backbone={backbone}", "technique/ss=heads_removed", "pretraining.start=random")
    with torch.device("meta"):
        model = build_classifier(
            Backbone(config.backbone.name, arguments=dict(config.backbone.arguments)), BRANCHES, classes=3, seed=0
        )
        scores = model(torch.zeros(2, 3, 64, 64))
    assert {branch.shape for branch in scores.branches.values()} == {(2, 3)}


def test_cost_is_counted_in_multiply_adds():
    model = build_classifier(tiny(), None, classes=7, seed=0)
    macs = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda layer, _, maps: macs.append(maps[0].numel() * layer.weight[0].numel())  # per output: one kernel
            )
    cost = count_cost(model, 64, images=1000)
    assert cost.gigamacs * 1e9 == sum(macs) + 16 * 7
    assert cost.exaflops == pytest.approx(6 * cost.gigamacs * 1e9 * 1000 / 1e18)
    assert model.training
