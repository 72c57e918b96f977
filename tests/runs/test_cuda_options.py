"""The options that matter on CUDA GPUs, as far as a machine without one can tell."""

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device
from torch.utils.data import TensorDataset

from exfuse.config.options import build
from exfuse.data.cache import NO_CACHE
from exfuse.data.loading import LoadedData
from exfuse.errors import ConfigError
from exfuse.process import allow_tf32
from exfuse.runs.fitting import build_trainer
from exfuse.store.description import Option, to_plain
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from tests.described import changed


@pytest.fixture(autouse=True)
def _exact_afterwards() -> Iterator[None]:
    yield
    allow_tf32(False)


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_switched_everywhere_without_a_warning_and_can_be_read_back(allowed):
    """Torch's compiler and its autograd read these; a switch set half the newer way makes the older raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for state in (not allowed, allowed):
            allow_tf32(state)
        assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            pass
        if hasattr(torch.backends.cudnn, "conv"):
            assert (torch.backends.cudnn.conv.fp32_precision == "tf32") is allowed


def test_a_fused_step_is_the_plain_step_but_for_rounding(compose_config):
    sgd = compose_config("recipe=voc", "data=voc", "backbone=resnet50").recipe.optimizer
    assert sgd.settings["fused"]
    for option in (sgd, Option("adamw", {"fused": True})):
        weights = []
        for fused in (True, False):
            torch.manual_seed(0)
            layer = torch.nn.Linear(9, 5)
            optimizer = build("optimizer", changed(option, "fused", fused))(layer.parameters(), lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                layer(torch.ones(2, 9)).square().sum().backward()
                optimizer.step()
            weights.append(layer.weight.detach())
        torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)


def test_a_format_that_the_device_would_replace_is_refused(compose_config, tmp_path):
    config = compose_config("recipe=voc", "trainer=cpu", "trainer.precision=16-mixed")
    origin = Record(key="key", status="running", label="baseline", config=to_plain(config))
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixed: the device trains in bf16-mixed instead"):
        build_trainer(config, RunFolder(tmp_path, "key"), origin, "train", monitor="val/miou")


def test_pinned_batches_are_copied_without_waiting():
    """Lightning's part of it: our loaders pin where the device is a CUDA one."""
    asked: list[bool] = []

    class Pinned(torch.Tensor):
        def to(self, *_: object, non_blocking: bool = False, **__: object) -> torch.Tensor:
            asked.append(non_blocking)
            return self

    batch = {"image": torch.zeros(2).as_subclass(Pinned)}
    move_data_to_device(batch, torch.device("cuda"))
    move_data_to_device(batch, torch.device("cpu"))
    assert asked == [True, False]


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda", True)])
def test_loaders_pin_memory_for_a_gpu_and_read_ahead_as_told(device, pinned):
    numbers: Any = TensorDataset(torch.zeros(4))
    data = LoadedData(numbers, numbers, "numbers", 2, 1, workers=2, seed=0, val_batch=1, cache=NO_CACHE, prefetch=5)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device(device))
    )
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert loader.pin_memory is pinned
        assert loader.prefetch_factor == 5
        assert loader.persistent_workers
    data.workers = 0
    assert data.train_dataloader().prefetch_factor is None
