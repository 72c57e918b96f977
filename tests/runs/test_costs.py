"""Costs: multiply-adds against counting by hand, throughput and memory of a real run."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel
from torch import nn

from exfuse.runs.costs import TrainingTime, gigamacs, latency_ms, resident_mib
from exfuse.store.folder import RunFolder


def test_multiply_adds_are_those_of_the_formula() -> None:
    convolutions = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1, stride=2)]
    model = nn.Sequential(*convolutions, nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1))
    size = 32
    by_hand = size**2 * 8 * 3 * 9 + (size // 2) ** 2 * 4 * 8 + (size // 2) ** 2 * 4 * 2 * 16
    assert gigamacs(model, size) == pytest.approx(by_hand / 1e9, rel=1e-12)
    assert model.training


def test_counting_leaves_the_mode_and_the_statistics_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gigamacs(model, 8)
    latency_ms(model, 8)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_run_knows_what_it_cost(finished_run: RunFolder) -> None:
    record = finished_run.record()
    assert record is not None
    costs = record.costs
    assert costs is not None
    assert costs.parameters == record.parameters
    assert costs.input == (1, 3, 64, 64)
    assert "FlopCounterMode" in costs.counter
    assert 0 < costs.gigamacs < 1
    assert 0 < costs.latency_ms < 10_000
    assert 0 < costs.train_images_per_second < 16 / 4 * 4 / 0.001
    assert costs.peak_memory_mib > 100
    assert costs.memory_of in ("process (resident set)", "CUDA allocator")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is getrusage's")
def test_the_peak_of_memory_is_that_of_this_process_alone() -> None:
    held = torch.ones(2**28)  # 1 GiB
    peak = resident_mib()
    assert peak > 1024
    del held
    assert resident_mib() >= peak  # it never sinks
    # its module would load torch, for seconds
    code = f"import resource, sys\nfrom pathlib import Path\n{inspect.getsource(resident_mib)}\nprint(resident_mib())"
    assert float(subprocess.check_output([sys.executable, "-c", code], text=True)) < peak - 512


def test_the_time_of_a_training_is_that_of_all_its_starts(tmp_path: Path) -> None:
    def fit(begun: Path | None, epochs: int) -> TrainingTime:
        taken = TrainingTime()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = pl.Trainer(accelerator="cpu", max_epochs=epochs, limit_train_batches=1, callbacks=[taken], **quiet)
        trainer.fit(BoringModel(), ckpt_path=begun, weights_only=True)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return taken

    assert 0 < fit(None, 1).seconds < 100
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    content["callbacks"]["TrainingTime"]["seconds"] += 100
    torch.save(content, tmp_path / "later.ckpt")
    assert 100 < fit(tmp_path / "later.ckpt", 2).seconds < 200
