"""The benchmark of scoring runs through, at a size that a test affords; its numbers are for quiet machines."""

import pytest

from exfuse.benchmarks import validation
from tests.benchmarks import DEVICES


@pytest.mark.parametrize("device", DEVICES)
def test_every_line_is_measured_and_its_ratio_is_that_of_its_two_sides(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_SIZE", (48, 64))
    monkeypatch.setattr(validation, "_ENCODERS", {"tiny": "resnet_tiny"})
    monkeypatch.setattr(validation, "_IMAGES", {"tiny": 2})
    monkeypatch.setattr(validation, "_mask", lambda: validation.np.zeros((48, 64), validation.np.uint8))
    said: list[str] = []
    found = validation.measure(device, said.append)
    assert len(found) == 4
    assert len(said) == 1
    for one in found:
        assert one.ratio == pytest.approx(one.ours / one.reference)
    assert found[0].met == (found[0].ratio <= 0.02)
    assert found[2].met == (found[2].ratio >= 0.85)
