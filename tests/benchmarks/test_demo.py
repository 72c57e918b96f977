"""The forms of the loss that are timed are the same function."""

import pytest
import torch

from exfuse.benchmarks import demo
from exfuse.tasks.losses import segmentation_loss
from tests.benchmarks import DEVICES


@pytest.mark.parametrize("form", [demo._over_rows, demo._over_maps, demo._once])
@pytest.mark.parametrize("void", [False, True])
def test_every_form_of_the_loss_has_its_value_and_gradient(form, void):
    scores = torch.randn(2, 5, 6, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    truth = torch.randint(5, (2, 6, 7), dtype=torch.uint8)
    if void:
        truth[:, :3] = 255
    values = [loss(scores, truth) for loss in (segmentation_loss, form)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, scores)[0] for value in values))


@pytest.mark.parametrize("device", DEVICES)
def test_the_demo_is_timed_against_what_it_was(device, monkeypatch):
    monkeypatch.setattr(demo, "_SHAPES", ((3, 32),))
    monkeypatch.setattr(demo, "_REPEATS", 1)
    threads = torch.get_num_threads()
    try:
        share, *forms, rate = demo.measure(device, lambda _: None)
    finally:
        torch.set_num_threads(threads)
    assert (share.target, rate.target) == ("<= 0.05", ">= 1.80")
    assert share.ratio == share.ours / share.reference
    assert len(forms) == 4
    assert rate.unit == "images/s"
    assert all(line.profile for line in (share, rate) if not line.met)
