"""Both sides of every benchmark calculate the same; their times are for quiet machines."""

import pytest
import torch

from exfuse.benchmarks import adjacent, memory, models
from exfuse.benchmarks.measurement import Measurement
from exfuse.benchmarks.plain import plain_forward, plain_product
from exfuse.benchmarks.variants import VARIANTS, batch, build, loss_of
from exfuse.techniques.embedding_branch import ProductEmbedding

pytest.importorskip("segmentation_models_pytorch")


def gradients(model, forward, image, truth):
    model.zero_grad()
    prediction = forward(image)
    loss_of(prediction, truth, model.auxiliary_weights).backward()
    return prediction, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_plain_composition_has_values_and_gradients_of_the_fast_one(variant):
    model = build(variant, "cpu", "resnet18").double()
    model.encoder.eval()
    image, truth = batch("cpu", 48)
    fast, ours = gradients(model, model, image.double(), truth)
    plain, expected = gradients(model, lambda one: plain_forward(model, one), image.double(), truth)
    torch.testing.assert_close(fast.scores, plain.scores)
    assert fast.auxiliary.keys() == plain.auxiliary.keys()
    for name, scores in fast.auxiliary.items():
        torch.testing.assert_close(scores, plain.auxiliary[name])
    for one, other in zip(ours, expected, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max() + 1e-12


def test_the_plain_product_is_the_embeddings():
    embedding = ProductEmbedding((3, 4, 5), (3, 4, 5)).double()
    maps = [torch.randn(2, channels, side, side, dtype=torch.float64) for channels, side in ((3, 8), (4, 4), (5, 2))]
    for one, other in zip(embedding(maps), plain_product(embedding, maps), strict=True):
        torch.testing.assert_close(one, other)


def consistent(line: Measurement) -> None:
    assert line.ours > 0
    assert line.ratio == pytest.approx(
        {None: line.ours}.get(line.reference, line.ours / (line.reference or 1.0)), rel=1e-9
    ) or line.ratio == pytest.approx((line.reference or 1.0) / line.ours)


def test_a_benchmark_of_models_runs_through(monkeypatch):
    monkeypatch.setattr(models, "_SIZE", 32)
    monkeypatch.setattr(models, "_REPEATS", 1)
    monkeypatch.setattr(models, "_BACKBONE", "resnet18")
    monkeypatch.setattr(models, "_CHANNELS", (8, 16, 24, 32))
    said: list[str] = []
    found = models.measure("cpu", said.append)
    assert len(found) == 6
    assert len(said) == 4
    for line in found:
        consistent(line)


def test_the_benchmark_of_averaging_runs_through(monkeypatch):
    monkeypatch.setattr(adjacent, "_SHAPE", (2, 189, 8, 8))
    found = adjacent.measure("cpu", lambda _: None)
    assert [line.target for line in found] == [">= 8.00", "reported", "reported", "reported"]
    for line in found:
        consistent(line)


def test_memory_is_weighed_per_variant_and_checkpointing_keeps_less():
    kept = {}
    for name in memory._ORDER:
        weighed = memory.memory_of(name, "cpu", 160, "resnet18")  # where maps outweigh kernels
        kept[name] = weighed.kept
        assert weighed.peak > 0
    plain, wide, checkpointed = (kept[name] for name in (memory._PLAIN, memory._WIDE, memory._CHECKPOINTED))
    assert kept["GCN baseline"] < wide < plain
    assert checkpointed < wide


def test_each_variant_is_weighed_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(memory, "_SIZE", 32)
    monkeypatch.setattr(memory, "_ORDER", ("GCN baseline",))
    (line,) = memory.measure("cpu", lambda _: None)
    assert line.ours == line.ratio > 100
    assert line.reference is None
    assert line.met
