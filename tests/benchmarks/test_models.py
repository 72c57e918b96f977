"""Both sides of every benchmark calculate the same; their times are for quiet machines."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from exfuse.benchmarks import memory, models
from exfuse.benchmarks.public import PublicExFuse
from exfuse.benchmarks.report import Measurement
from exfuse.benchmarks.variants import VARIANTS, batch, build_variant, loss_of
from tests.benchmarks import DEVICES

pytest.importorskip("segmentation_models_pytorch")


def gradients(model, forward, image, truth):
    model.zero_grad()
    prediction = forward(image)
    loss_of(prediction, truth, model.auxiliary_weights).backward()
    return prediction, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_layers_one_after_the_other_have_values_and_gradients_of_the_fast_forms(variant):
    image, truth = batch("cpu", 48)
    fast, layers = (build_variant(variant, "cpu", "resnet18", fast=fast).double() for fast in (True, False))
    predictions = []
    for model in (fast, layers):
        model.encoder.eval()
        predictions.append(model(image.double()))
        loss_of(predictions[-1], truth, model.auxiliary_weights).backward()
    torch.testing.assert_close(predictions[0], predictions[1])
    for one, other in zip(fast.parameters(), layers.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() <= 1e-6 * other.grad.abs().max() + 1e-12


def test_the_stand_in_has_the_public_ones_sizes():
    with torch.device("meta"):
        model = PublicExFuse(21)
        assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(72.6e6, rel=0.002)
        with FlopCounterMode(display=False) as counter:
            scores = model(torch.empty(1, 3, 256, 256))
    assert scores.shape == (1, 21, 256, 256)
    assert counter.get_total_flops() == pytest.approx(78.1e9, rel=0.02)


def consistent(line: Measurement) -> None:
    assert line.ours > 0
    assert line.ratio == pytest.approx(
        {None: line.ours}.get(line.reference, line.ours / (line.reference or 1.0)), rel=1e-9
    ) or line.ratio == pytest.approx((line.reference or 1.0) / line.ours)


@pytest.mark.parametrize("device", DEVICES)
def test_a_benchmark_of_models_runs_through(device, monkeypatch):
    monkeypatch.setattr(models, "_SIZE", 32)
    monkeypatch.setattr(models, "_REPEATS", 1)
    monkeypatch.setattr(models, "_BACKBONE", "resnet18")
    monkeypatch.setattr(models, "_CHANNELS", (8, 16, 24, 32))
    monkeypatch.setattr(models, "_AVERAGED", (2, 189, 8, 8))
    said: list[str] = []
    found = models.measure(device, said.append)
    assert len(found) == 13
    assert len(said) == 7
    assert [line.target for line in found[-4:]] == [">= 8.00", "", "", ""]
    assert {line.item.split(" / ")[1] for line in found[:6]} == {
        *("FPN of segmentation_models_pytorch", "DeepLabV3+ of segmentation_models_pytorch", "GCN baseline"),
        *("the public ExFuse's layers", "plain composition of the same layers"),
    }
    assert all(line.profile for line in found[:7] if line.target and not line.met)
    assert all(re.search(r"; \d+ / \d+ GFLOP, \d\.\d\d of its arithmetic$", line.details) for line in found[:6])
    for line in found:
        consistent(line)


@pytest.mark.parametrize("device", DEVICES)
def test_memory_is_weighed_per_variant_and_checkpointing_keeps_less(device):
    kept = {}
    for name in memory._ORDER:
        weighed = memory.memory_of(name, device, 128, "resnet18")  # where maps outweigh kernels
        kept[name] = weighed.kept
        assert weighed.peak > 0
    plain, wide, checkpointed = (kept[name] for name in (memory._PLAIN, memory._WIDE, memory._CHECKPOINTED))
    assert kept["GCN baseline"] < wide < plain
    assert checkpointed < wide


@pytest.mark.usefixtures("forked")
def test_each_variant_is_weighed_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(memory, "_SIZE", 32)
    monkeypatch.setattr(memory, "_ORDER", ("GCN baseline",))
    (line,) = memory.measure("cpu", lambda _: None)
    assert line.ours == line.ratio > 100
    assert line.reference is None
    assert line.met
