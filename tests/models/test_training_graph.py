"""The training graph against the modules called one after the other: values and gradients of whole variants."""

import copy
import itertools

import pytest
import torch
from torch._dynamo.utils import counters

from exfuse.benchmarks.variants import loss_of
from exfuse.composition.segmentation import build_model
from exfuse.fusing import training
from exfuse.models.decoder import Decoder
from exfuse.models.gcn import BoundaryRefinement
from tests.sharing import amount

CLASSES = 4
VARIANTS = [
    "technique/dap=none",
    "technique/dap=wide technique/seb=product technique/ecre=subpixel_supervised",
    "technique/dap=wide technique.dap.window=1",
    "technique/dap=wide technique.dap.window=5 decoder=levels_45",
    "technique/dap=wide_control decoder=levels_345",
    "technique/dap=last technique/seb=product technique/ecre=subpixel_supervised",
    "technique/dap=last technique.dap.window=5",
    "technique/dap=wide backbone.output_stride=8",
    "technique/dap=wide_kernel",
    "technique/dap=wide_kernel technique.dap.window=5 decoder=levels_45",
    "technique/dap=last_kernel",
    "technique/dap=last_control",
    "technique/dap=wide decoder=plain backbone.output_stride=8",
]
COMPILED = [f"{VARIANTS[1]} decoder.checkpoint_activations=true", VARIANTS[1], VARIANTS[5]]
SIZES = [(64, 96), (65, 47), (33, 64), (1, 40)]
CASES = list(itertools.product(VARIANTS, SIZES, [torch.contiguous_format, torch.channels_last]))


@pytest.fixture(scope="module")
def variant(compose_config):
    """A variant in float64, its weights moved away from their start (zero biases, identical groups)."""
    built = {}

    def of(overrides):
        if overrides not in built:
            model = build_model(compose_config("backbone=resnet_tiny", *overrides.split()), CLASSES).double()
            generator = torch.Generator().manual_seed(0)
            for parameter in model.parameters():
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            # statistics of a batch would tie every value to every other
            built[overrides] = model.train()
            model.encoder.eval()
        return copy.deepcopy(built[overrides])

    return of


def batch(size):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    truth = torch.randint(CLASSES, (2, *size), generator=generator).to(torch.uint8)
    truth[0, :, : size[1] // 3] = 255
    return image, truth


def outcome_and_gradients(model, image, truth):
    model.zero_grad()
    prediction = model(image)
    loss_of(prediction, truth, model.auxiliary_weights).backward()
    return prediction.scores, {name: parameter.grad for name, parameter in model.named_parameters()}


def plain(model):
    """The same weights in the forms that stand beside the paper's figures."""
    plain_of = {fast: option for option, fast in training._FORMS.items()} | {training.OpenDecoder: Decoder}
    model = copy.deepcopy(model)
    for module in model.modules():
        module.__class__ = plain_of.get(type(module), type(module))
    return model


def assert_equal_gradients(ours, expected, tolerance=1e-9):
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (ours[name] - gradient).abs().max() <= tolerance * gradient.abs().max() + 1e-12, name


@pytest.mark.parametrize(("overrides", "size", "layout"), amount(CASES[::5], CASES), ids=str)  # 5 and 8 share no divisor
def test_training_has_values_and_gradients_of_the_modules_in_order(variant, overrides, size, layout):
    model, (image, truth) = variant(overrides).to(memory_format=layout), batch(size)
    image = image.contiguous(memory_format=layout)
    scores, gradients = outcome_and_gradients(model, image, truth)
    expected, plain_gradients = outcome_and_gradients(plain(model), image, truth)
    torch.testing.assert_close(scores, expected)
    assert_equal_gradients(gradients, plain_gradients)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(image).scores, expected)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("overrides", ["decoder=levels_2345", *VARIANTS[:2]])
def test_a_refinement_lays_its_gradient_out_as_its_maps_and_changes_no_bit(variant, overrides, half):
    model = variant(overrides).float().to(memory_format=torch.channels_last)
    as_drawn, (image, truth) = copy.deepcopy(model), batch((64, 96))
    for module in as_drawn.modules():
        if isinstance(module, BoundaryRefinement):
            module.__class__ = BoundaryRefinement
    layouts = []

    def look(module, _, gradients):
        layouts.append((type(module), gradients[0].is_contiguous(memory_format=torch.channels_last)))

    image, found = image.float().contiguous(memory_format=torch.channels_last), []
    for one in (model, as_drawn):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found.append(outcome_and_gradients(one, image, truth))
        refinement = one.decoder.refinements[-1]
        refinement.second.register_full_backward_hook(lambda _, ins, outs, of=refinement: look(of, ins, outs))
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            outcome_and_gradients(one, image, truth)
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    assert [name for name, gradient in found[0][1].items() if not torch.equal(gradient, found[1][1][name])] == []
    if overrides == "decoder=levels_2345":  # others read what it starts from
        assert layouts == [(training._Refinement, True), (BoundaryRefinement, False)]


@pytest.mark.parametrize("overrides", VARIANTS[1:6:4])
def test_bfloat16_training_is_as_near_to_the_truth_as_the_plain_form(variant, overrides):
    exact, (image, truth) = variant(overrides), batch((64, 96))
    true_scores, true_gradients = outcome_and_gradients(exact, image, truth)
    model = copy.deepcopy(exact).float().to(memory_format=torch.channels_last)

    def error(model):
        with torch.autocast("cpu", torch.bfloat16):
            scores, gradients = outcome_and_gradients(model, image.float(), truth)
        off = {
            name: ((gradients[name] - gradient).norm() / gradient.norm()).item()
            for name, gradient in true_gradients.items()
            if gradient.norm() > 1e-9
        }
        return ((scores - true_scores).norm() / true_scores.norm()).item(), sum(off.values()) / len(off)

    (scores, gradients), (plain_scores, plain_gradients) = error(model), error(plain(model))
    assert scores < 1.5 * plain_scores < 0.1
    assert gradients < 1.5 * plain_gradients


@pytest.mark.parametrize("overrides", VARIANTS[:3])
def test_checkpointing_changes_no_value_and_no_gradient_and_keeps_less(variant, compose_config, overrides):
    model, (image, truth) = variant(overrides), batch((65, 47))
    config = compose_config("backbone=resnet_tiny", *overrides.split(), "decoder.checkpoint_activations=true")
    checkpointed = build_model(config, CLASSES).double().train()
    checkpointed.load_state_dict(model.state_dict())
    checkpointed.encoder.eval()
    kept = [0, 0]

    def noting(index):
        def note(tensor):
            kept[index] += tensor.untyped_storage().nbytes()
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)

    with noting(0):
        scores, gradients = outcome_and_gradients(model, image, truth)
    with noting(1):
        again, recalculated = outcome_and_gradients(checkpointed, image, truth)
    assert torch.equal(scores, again)
    assert all(torch.equal(gradients[name], recalculated[name]) for name in gradients)
    assert kept[1] < kept[0]


def test_training_keeps_one_map_of_the_decoders_width_at_full_resolution(variant):
    model, (image, truth) = variant(VARIANTS[1]), batch((64, 96))
    kept = {}

    def note(tensor):
        if tensor.ndim == 4 and tensor.shape[1] >= 9 * CLASSES and tensor.shape[-2:] == image.shape[-2:]:
            kept[tensor.untyped_storage().data_ptr()] = tuple(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        prediction = model(image)
    loss_of(prediction, truth, model.auxiliary_weights).backward()
    assert list(kept.values()) == [(2, 9 * CLASSES, 64, 96)]  # relu's


@pytest.mark.slow
@pytest.mark.parametrize("overrides", amount(COMPILED[:1], COMPILED))
def test_a_compiled_model_trains_the_same(variant, overrides):
    model, (image, truth) = variant(overrides), batch((64, 96))
    scores, gradients = outcome_and_gradients(model, image, truth)
    compiled = copy.deepcopy(model)
    compiled.compile(backend="aot_eager")
    counters["graph_break"].clear()
    again, recalculated = outcome_and_gradients(compiled, image, truth)
    assert not counters["graph_break"]
    torch.testing.assert_close(again, scores)
    assert_equal_gradients(recalculated, gradients)
