import itertools

import pytest
import torch
from torch.nn import functional as F

from exfuse.composition.segmentation import build_model
from exfuse.fusing import shifted_mean as shifted_mean_module
from exfuse.fusing.training import accelerate, sum_as_kernel
from exfuse.techniques.adjacent_prediction import (
    AdjacentPrediction,
    LastBlockPrediction,
    PlainPrediction,
    WideControl,
)

WINDOWS = (1, 3, 5)
# The last three are smaller than some or all windows.
MAPS = ((6, 7), (9, 4), (2, 5), (1, 3), (1, 1))


def by_the_formula(x, classes, k):
    """r[i, j] = 1/k^2 * sum over l, m of group (l*k + m) at (i + l - k//2, j + m - k//2), term by term."""
    batch, _, height, width = x.shape
    out = torch.zeros(batch, classes, height, width, dtype=x.dtype)
    for i, j, l, m, c in itertools.product(range(height), range(width), range(k), range(k), range(classes)):  # noqa: E741
        row, col = i + l - k // 2, j + m - k // 2
        if 0 <= row < height and 0 <= col < width:
            out[:, c, i, j] += x[:, (l * k + m) * classes + c, row, col] / k**2
    return out


def scores_for(dap, size, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, dap.decoder_channels, *size, generator=generator, dtype=torch.float64, **options)


@pytest.mark.parametrize("size", MAPS, ids=str)
@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("window", WINDOWS)
def test_adjacent_prediction_equals_its_formula_borders_included(window, classes, size):
    dap = AdjacentPrediction(classes, window)
    x = scores_for(dap, size)
    expected = by_the_formula(x, classes, window)
    torch.testing.assert_close(dap(x), expected)
    torch.testing.assert_close(accelerate(dap)(x.requires_grad_()), expected)
    torch.testing.assert_close(dap.auxiliary(x), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(("window", "size"), [*itertools.product(WINDOWS, MAPS), (7, (2, 3)), (9, (3, 1))], ids=str)
def test_sum_for_training_has_value_and_gradient_of_the_padded_form(window, size, layout):
    classes = 3
    dap = AdjacentPrediction(classes, window)
    fast = scores_for(dap, size).contiguous(memory_format=layout).requires_grad_()
    plain = fast.detach().clone().requires_grad_()
    expected = dap(plain)
    outcome = accelerate(dap)(fast)
    torch.testing.assert_close(outcome, expected)
    weights = torch.randn(outcome.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (outcome * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(fast.grad, plain.grad)


@pytest.mark.parametrize("window", WINDOWS)
def test_gradient_agrees_with_finite_differences(window):
    dap = accelerate(AdjacentPrediction(2, window))
    assert torch.autograd.gradcheck(dap, scores_for(dap, (3, 2)).requires_grad_())


def test_training_keeps_no_map_for_the_backward_pass():
    dap, kept = accelerate(AdjacentPrediction(2, 3)), []
    x = scores_for(dap, (5, 5)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda kind: kind):
        dap(x)
    assert kept == []


def test_bfloat16_scores_are_averaged_as_float32_ones_and_rounded_once():
    dap = accelerate(AdjacentPrediction(4, 3))
    x = scores_for(dap, (11, 13)).bfloat16()
    exact = by_the_formula(x.double(), 4, 3)
    for_training, for_validation = dap(x.clone().requires_grad_()), dap(x)
    assert for_training.dtype == for_validation.dtype == torch.bfloat16
    rounding = torch.finfo(torch.bfloat16).eps / 2
    for outcome in (for_training, for_validation, AdjacentPrediction(4, 3)(x)):
        torch.testing.assert_close(outcome.double(), exact, rtol=1.01 * rounding, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", [AdjacentPrediction, WideControl])
@pytest.mark.parametrize("window", WINDOWS)
def test_half_precision_is_averaged_as_well_in_evaluation_as_in_training(kind, window, dtype):
    head = accelerate(kind(4, window))
    x = (5 + scores_for(head, (11, 13))).to(dtype)  # of one sign: a running sum of half precision loses most
    exact = kind(4, window)(x.double())

    def error(scores):
        assert scores.dtype == dtype
        return float((scores.detach().double() - exact).norm() / exact.norm())

    training = error(head.train()(x.clone().requires_grad_()))
    assert error(head.eval()(x)) <= 1.01 * training <= torch.finfo(dtype).eps


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("window", WINDOWS)
def test_averaging_in_bands_of_rows_is_the_same_average(monkeypatch, window, layout):
    dap = accelerate(AdjacentPrediction(4, window))
    x = scores_for(dap, (11, 13)).bfloat16().contiguous(memory_format=layout).requires_grad_()
    outcomes, bands = [], []
    for band in (1, 3 * dap.decoder_channels * 13, 2**30):
        monkeypatch.setattr(shifted_mean_module, "_BAND", band)
        bands.append(len(list(shifted_mean_module._bands(x))))
        mean = dap(x)
        outcomes.append((mean, *torch.autograd.grad(mean, x, torch.linspace(-1, 1, mean.numel()).view(mean.shape).bfloat16())))
    assert bands == [2 * 11, 2 * 4, 2 * 1]
    for outcome in outcomes[1:]:
        assert all(torch.equal(one, other) for one, other in zip(outcome, outcomes[0], strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_the_mean_for_training_is_compiled_as_one_graph(layout, dtype):
    dap = accelerate(AdjacentPrediction(4, 3))
    x = scores_for(dap, (7, 9)).to(dtype).contiguous(memory_format=layout).requires_grad_()
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(dap, backend=keep, fullgraph=True)
    means = [head(x) for head in (dap, compiled)]
    gradients = [torch.autograd.grad(mean.square().sum(), x)[0] for mean in means]
    torch.testing.assert_close(*means)
    torch.testing.assert_close(*gradients)
    parts = [part for graph in graphs for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]
    nodes = [node for part in parts for node in part.graph.nodes]
    assert len(nodes) > 9
    assert not any("out" in node.kwargs for node in nodes)  # part of a map as out= breaks the graph of some releases


@pytest.mark.parametrize("window", WINDOWS)
def test_the_kernels_of_both_heads_are_what_they_average(window):
    for head in (AdjacentPrediction(3, window), WideControl(3, window)):
        x = scores_for(head, (6, 7))
        kernel = sum_as_kernel(head).double()
        read = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2) / window**2
        torch.testing.assert_close(read, head(x))
        accelerate(head)
        assert head.state_dict() == {}  # checkpoints do not know it


@pytest.mark.parametrize("option", [AdjacentPrediction, LastBlockPrediction])
@pytest.mark.parametrize("window", [0, 2, 4])
def test_a_window_without_a_centre_is_refused(option, window):
    with pytest.raises(ValueError, match=f"odd window, got {window}"):
        option(3, window)


def test_the_baseline_hands_the_decoders_map_through():
    head = PlainPrediction(4)
    x = scores_for(head, (5, 6))
    assert head.decoder_channels == 4
    assert head(x) is x
    assert head.auxiliary(x) is x


@pytest.mark.parametrize("window", WINDOWS)
def test_control_averages_the_groups_where_they_stand(window):
    classes = 3
    control = WideControl(classes, window)
    x = scores_for(control, (4, 5))
    expected = torch.zeros(2, classes, 4, 5, dtype=x.dtype)
    for group, c in itertools.product(range(window**2), range(classes)):
        expected[:, c] += x[:, group * classes + c] / window**2
    torch.testing.assert_close(control(x), expected)
    torch.testing.assert_close(control.auxiliary(x), expected)


def test_dap_moves_what_its_control_leaves_in_place():
    classes = 2
    dap, control = AdjacentPrediction(classes, 3), WideControl(classes, 3)
    for l, m, c in itertools.product(range(3), range(3), range(classes)):  # noqa: E741
        impulse = torch.zeros(1, 9 * classes, 5, 7)
        impulse[0, (l * 3 + m) * classes + c, 2, 3] = 9.0
        # the map at (2, 3) says in group (l, m) what it thinks of the position for which it is the neighbour (l, m)
        assert dap(impulse).nonzero().tolist() == [[0, c, 2 - (l - 1), 3 - (m - 1)]]
        assert control(impulse).nonzero().tolist() == [[0, c, 2, 3]]


def test_control_has_the_decoder_and_the_parameters_of_dap(compose_config):
    wide, control, none = (
        {
            name: parameter.shape
            for name, parameter in build_model(compose_config(f"technique/dap={option}"), 5).named_parameters()
        }
        for option in ("wide", "wide_control", "none")
    )
    assert wide == control
    assert wide.keys() == none.keys()
    assert wide["decoder.refinements.0.first.weight"] == (45, 45, 3, 3)
    assert none["decoder.refinements.0.first.weight"] == (5, 5, 3, 3)


def last_block(classes, window, seed=0):
    head = LastBlockPrediction(classes, window).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return head


@pytest.mark.parametrize("window", WINDOWS)
def test_last_block_is_a_convolution_and_then_dap(window):
    head = last_block(3, window)
    assert head.decoder_channels == 3
    x = scores_for(head, (6, 5))
    wide = F.conv2d(x, head.widen.weight, head.widen.bias, padding=1)
    assert wide.shape[1] == 3 * window**2
    torch.testing.assert_close(head(x), by_the_formula(wide, 3, window))
    assert head.auxiliary(x) is x


def test_last_block_equals_one_composed_5x5_convolution_off_the_border():
    classes, k = 3, 3
    head = last_block(classes, k)
    weight, bias = torch.zeros(classes, classes, 5, 5, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for l, m, c in itertools.product(range(k), range(k), range(classes)):  # noqa: E741
        channel = (l * k + m) * classes + c
        weight[c, :, l : l + 3, m : m + 3] += head.widen.weight.detach()[channel] / k**2
        bias[c] += head.widen.bias.detach()[channel] / k**2
    x = scores_for(head, (8, 9))
    outcome, composed = head(x), F.conv2d(x, weight, bias, padding=2)
    torch.testing.assert_close(outcome[..., 1:-1, 1:-1], composed[..., 1:-1, 1:-1])
    border = torch.ones(8, 9, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    # there positions outside the map predict nothing, where the composed kernel lets them predict the bias and more
    assert (outcome - composed).abs()[..., border].amax((0, 1)).min() > 1e-3


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", MAPS, ids=str)
def test_last_block_starts_as_the_identity_borders_included(window, size):
    head = LastBlockPrediction(4, window).double()
    head.reset_parameters()
    x = scores_for(head, size)
    torch.testing.assert_close(head(x), x)
    gradient = torch.autograd.grad(head(x).square().sum(), head.widen.weight)[0].unflatten(0, (window**2, 4))
    if min(size) > window // 2:
        assert gradient.abs().amax((1, 2, 3, 4)).min() > 0  # what is predicted for neighbours learns from the first step on
