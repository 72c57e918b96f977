import pytest
import torch

from exfuse.benchmarks import inference
from exfuse.benchmarks.variants import build_variant
from tests.benchmarks import DEVICES
from tests.sharing import amount


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_every_variant_is_timed_and_compared_at_every_size(device, monkeypatch):
    monkeypatch.setattr(inference, "build_variant", lambda variant, device: build_variant(variant, device, backbone="resnet18"))
    sizes = amount((65,), (32, 65))
    monkeypatch.setattr(inference, "_SIZES", sizes)
    monkeypatch.setattr(inference, "_REPEATS", 1)
    quick = {name: make for name, make in inference._COMPILERS.items() if make is inference._onednn}  # the others take minutes
    monkeypatch.setattr(inference, "_COMPILERS", quick)
    steps = []
    measurements = inference.measure(device, steps.append)
    times = [measurement for measurement in measurements if measurement.unit == "ms"]
    bounded = [one for one in times if one.target]
    assert len(bounded) == len(inference.VARIANTS) * len(sizes)
    assert all(one.ratio == one.reference / one.ours and one.met == (one.ratio >= 1.3) for one in bounded)
    compilers = [one for one in times if "compilers" in one.item]
    assert len(compilers) == (len(bounded) if device == "cpu" else 0)
    assert all("made in" in one.details for one in compilers)
    differences = [measurement for measurement in measurements if measurement.unit != "ms"]
    assert all(one.met and 0 < one.ratio < 1e-5 for one in differences)
    assert steps


def test_statistics_are_those_of_a_batch():
    model = inference._with_statistics(build_variant("GCN baseline", "cpu", backbone="resnet18"))
    means = [value for name, value in model.state_dict().items() if name.endswith("running_mean")]
    assert not model.training
    assert all(torch.count_nonzero(mean) for mean in means)
