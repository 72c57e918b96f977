import pytest

from exfuse.benchmarks import profiling


@pytest.mark.parametrize("inference", [False, True])
def test_the_operators_of_a_step_are_listed_by_their_own_time(monkeypatch, inference):
    monkeypatch.setattr(profiling, "_SIZE", 64)
    monkeypatch.setattr(profiling, "_STEPS", 1)
    text = profiling.profiled("ExFuse, DAP last", half=False, inference=inference, backbone="resnet10t")
    assert "conv" in text
    assert "Self CPU time total" in text
