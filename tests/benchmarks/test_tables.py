"""The benchmarks of tables, input and starts run through, at sizes that a test affords."""

import pytest
import torch

from exfuse.benchmarks import input as input_benchmark, start, tables
from tests.benchmarks import DEVICES


def test_tables_of_more_and_more_records_are_real_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "_RECORDS", (10, 100, 110))
    lines = tables.measure("cpu", lambda _: None)
    assert [line.target for line in lines] == ["", "", "<= 5", "<= 1.25"]
    assert lines[2].ours == lines[2].ratio
    assert lines[3].ratio == pytest.approx(lines[2].ours / (lines[1].ours * 1.1))
    texts = tables.Rendering(tables.load_study(tables._write(tmp_path / "study", 10))).texts()
    assert "row 4" in texts["table.md"]


@pytest.mark.parametrize("device", DEVICES)
def test_every_stage_of_the_input_is_held_against_what_gpus_eat(device, monkeypatch):
    monkeypatch.setattr(input_benchmark, "_IMAGES", 2)
    monkeypatch.setattr(input_benchmark, "_SIDE", 64)
    monkeypatch.setattr(input_benchmark, "_CROP", 64)
    monkeypatch.setattr(input_benchmark, "_REPEATS", 1)
    threads = torch.get_num_threads()
    try:
        reading, augmentation, batching, cutting, cuts, *sums = input_benchmark.measure(device, lambda _: None)
    finally:
        torch.set_num_threads(threads)
    for (whole, cached), own in ((sums[:2], (augmentation, batching)), (sums[2:], (cutting, cuts))):
        assert 1 / cached.ours == pytest.approx(sum(1 / stage.ours for stage in own))
        assert 1 / whole.ours == pytest.approx(1 / reading.ours + 1 / cached.ours)
        assert "assumed of one H100" in whole.details
        assert all(line.profile for line in (whole, cached) if not line.met)
    assert len(sums) == 4


def test_a_profile_of_imports_names_packages(monkeypatch):
    monkeypatch.setattr(start, "_LIBRARIES", "import numpy.linalg")  # which takes longer than all beside it
    assert "| numpy |" in start._by_package()
