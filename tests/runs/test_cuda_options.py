"""The options that matter on CUDA GPUs, as far as a machine without one can tell."""

import os
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

from exfuse import process
from exfuse.config.options import build
from exfuse.data.loading import LoadedData, Loading
from exfuse.devices import allow_tf32, choose_device, training_formats
from exfuse.errors import ConfigError
from exfuse.models.upsample import enlarge
from exfuse.process import loader_workers
from exfuse.runs.fitting import build_trainer
from exfuse.store.description import Option, to_plain
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from tests.described import changed
from tests.sharing import amount


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
    data = LoadedData(numbers, numbers, "numbers", Loading(2, workers=2, prefetch=5), val_batch=1)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device(device))
    )
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert loader.pin_memory is pinned
        assert loader.prefetch_factor == 5
        assert loader.persistent_workers
    data.workers = 0
    assert data.train_dataloader().prefetch_factor is None


def test_outside_of_training_steps_float32_is_float32():
    def allowed() -> tuple[bool, str]:
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    exact = (False, "highest")
    allow_tf32(True)
    choose_device("cpu")
    assert allowed() == exact
    with training_formats(True):
        assert allowed() == (True, "high")
    assert allowed() == exact
    with pytest.raises(KeyError), training_formats(True):
        raise KeyError
    assert allowed() == exact


@pytest.mark.parametrize(
    ("cores", "gpus", "expected"),
    [(2, 0, 2), (1, 0, 1), (64, 0, 2), (16, 1, 8), (8, 1, 7), (64, 8, 7), (4, 4, 2), (1, 1, 2), (128, 2, 8)],
)
def test_loaders_get_their_share_of_the_cores(cores, gpus, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(process, "gpus_of_machine", lambda: gpus)
    assert loader_workers("auto") == expected
    assert loader_workers(5) == 5
    assert loader_workers(0) == 0


class _Asked(TorchDispatchMode):
    """Counts how often a tensor's value was asked for: on a GPU each time waits for all that was sent there before."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.times += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_training_asks_for_no_value_between_the_steps_that_are_logged(train_small, tmp_path):
    """With its progress bar, clipping and metrics: sixteen steps more ask for as much as is shown and logged of them."""
    times = []
    shown = ("trainer.enable_progress_bar=true", "trainer.log_every_n_steps=8", "recipe.epochs=1", "recipe.val_every=9")
    shown += ("optimizer@recipe.optimizer=sgd",)  # Adam's own counters of steps lie on the CPU
    for batch, steps in ((4, 4), (1, 16)):
        with _Asked() as asked:
            train_small(*shown, f"recipe.batch_size={batch}", "trainer.num_sanity_val_steps=0", runs=tmp_path / str(steps))
        times.append(asked.times)
    per_logged = 8  # losses in the bar and in the log
    assert times[1] - times[0] <= 2 * per_logged


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_enlarging_rounds_gradients_once(dtype):
    """The backward pass adds in float32: on a GPU it adds one by one, in the dtype that it is given."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 6, 7, generator=generator).to(dtype).requires_grad_()
    gradient = torch.rand(2, 5, 48, 56, generator=generator).to(dtype)  # of one sign, as sums grow
    seen: list[torch.dtype] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.upsample_bilinear2d_backward.default:
                seen.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with Watch():
        enlarged = enlarge(maps, (48, 56))
        (found,) = torch.autograd.grad(enlarged, maps, gradient)
    assert enlarged.dtype == found.dtype == dtype
    assert seen == [torch.float32]
    exact = maps.detach().double().requires_grad_()
    wide = torch.nn.functional.interpolate(exact, (48, 56), mode="bilinear")
    (expected,) = torch.autograd.grad(wide, exact, gradient.double())
    for one, other in ((enlarged.detach(), wide.detach()), (found, expected)):
        error = float(((one.double() - other).abs() / other.abs().clamp(min=1e-3)).max())
        assert error <= 1.01 * torch.finfo(dtype).eps / 2 + 5e-5
    one_by_one = _added_in(dtype, gradient, 8)
    if dtype is torch.bfloat16:
        assert float(((one_by_one - expected).abs() / expected).mean()) > 0.02  # what it saves from


def _added_in(dtype: torch.dtype, gradient: torch.Tensor, scale: int) -> torch.Tensor:
    """The gradient of bilinear enlargement with every sum rounded, as atomic additions round."""
    height, width = gradient.shape[2] // scale, gradient.shape[3] // scale
    total = torch.zeros(*gradient.shape[:2], height, width, dtype=dtype)
    for row in range(gradient.shape[2]):
        for column in range(gradient.shape[3]):
            y, x = (max(0.0, (place + 0.5) / scale - 0.5) for place in (row, column))
            for low, weigh_y in ((int(y), 1 - y % 1), (min(int(y) + 1, height - 1), y % 1)):
                for left, weigh_x in ((int(x), 1 - x % 1), (min(int(x) + 1, width - 1), x % 1)):
                    total[:, :, low, left] += (weigh_y * weigh_x * gradient[:, :, row, column].float()).to(dtype)
    return total.double()


@pytest.mark.parametrize("variant", amount(["exfuse"], ["exfuse", "exfuse_last", "seb"]))
def test_no_training_step_enlarges_gradients_in_half_precision(variant, train_small):
    seen: set[torch.dtype] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "upsample_bilinear2d_backward" in str(func):
                seen.add(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with Watch():
        train_small(f"+ablation={variant}", "trainer.precision=bf16-mixed", "recipe.epochs=1")
    assert seen == {torch.float32}
