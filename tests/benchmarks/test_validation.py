"""The benchmark of scoring runs through, at a size that a test affords; its numbers are for quiet machines."""

import pytest

from exfuse.benchmarks import validation


def test_every_line_is_measured_and_its_ratio_is_that_of_its_two_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_SIZE", (48, 64))
    monkeypatch.setattr(validation, "_IMAGES", 2)
    monkeypatch.setattr(validation, "_ENCODERS", {"tiny": "resnet_tiny"})
    monkeypatch.setattr(validation, "_mask", lambda: validation.np.zeros((48, 64), validation.np.uint8))
    said: list[str] = []
    found = validation.measure("cpu", said.append)
    assert len(found) == 4
    assert len(said) == 3
    counts, areas, batches, scoring = found
    for one in (counts, areas):
        assert one.ratio == pytest.approx(one.ours / one.reference)
    assert counts.met == (counts.ratio <= 0.02)
    assert batches.ratio == pytest.approx(batches.ours / batches.reference)
    assert scoring.ours > 0
    assert "2 generated scenes" in scoring.details
