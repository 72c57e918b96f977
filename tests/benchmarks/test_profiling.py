from functools import partial

import pytest

from exfuse.benchmarks import profiling
from exfuse.benchmarks.variants import build


@pytest.mark.parametrize("inference", [False, True])
def test_shares_are_of_all_operators_and_the_largest_comes_first(monkeypatch, inference):
    monkeypatch.setattr(profiling, "build", partial(build, backbone="resnet10t"))
    monkeypatch.setattr(profiling, "_SIZE", 64)
    monkeypatch.setattr(profiling, "_STEPS", 1)
    rows = profiling._profile("ExFuse, DAP last", half=False, inference=inference)
    times, shares = ([float(row[place]) for row in rows] for place in (2, 3))
    assert times == sorted(times, reverse=True)
    assert 30 < sum(shares) <= 100.5
    assert any("convolution" in row[0] or "conv" in row[0] for row in rows)
