"""Where these tests run: on a CUDA GPU, or nowhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exfuse.runs.training import train
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from tests.small_runs import only_run

# EXFUSE_GPU_TESTS=cpu tries the tests themselves on a machine without a GPU; it shows nothing of GPUs.
DRY = os.environ.get("EXFUSE_GPU_TESTS") == "cpu"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if DRY or torch.cuda.is_available():
        return
    for item in here:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, and torch sees none here"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cpu" if DRY else "cuda")


@pytest.fixture(scope="session")
def two_gpus() -> None:
    """For tests of two processes, one GPU each."""
    if not DRY and torch.cuda.device_count() < 2:
        pytest.skip(f"needs two CUDA GPUs, here are {torch.cuda.device_count()}")


TrainThere = Callable[..., RunFolder]


@pytest.fixture
def train_there(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], tmp_path: Path, device: torch.device
) -> TrainThere:
    """Train on the GPU and return the run's folder: ``train_there("seed=1", runs=folder)``."""
    place = [] if device.type == "cpu" else ["trainer=gpu", "trainer.enable_progress_bar=false"]

    def trained(*overrides: str, runs: Path = tmp_path / "runs") -> RunFolder:
        train(compose_config(*small_overrides, *place, f"paths.runs={runs}", *overrides))
        return only_run(runs)

    return trained
