"""Batch norm over two CPU processes equals batch norm of the whole batch in one."""

import copy
from pathlib import Path

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import distributed, nn
from torch.multiprocessing import start_processes

from exfuse.tasks.sync_batch_norm import SyncBatchNormAnywhere
from tests.entry_points import SERVER


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), BatchNormAct2d(5), nn.Conv2d(5, 2, 1))


def step(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A loss that is no mean of per-image losses of the maps alone: batch norm ties the images together."""
    return model(images).square().mean((1, 2, 3)).sum()


def half(rank: int, folder: Path, shares: list[int]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    images = torch.load(folder / "images.pt", weights_only=True)
    model = SyncBatchNormAnywhere(on_gpu=False).apply(network())
    for _ in range(2):  # the second step sees the running mean that the first one left
        model.zero_grad()
        step(model, images.split(shares)[rank]).backward()
    for parameter in model.parameters():
        distributed.all_reduce(parameter.grad)
    if rank == 0:
        state = {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
        torch.save(state | {f"state.{name}": value for name, value in model.state_dict().items()}, folder / "result.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("shares", [[3, 3], [1, 5]], ids=["equal", "unequal"])
def test_two_processes_have_the_gradients_and_statistics_of_one(tmp_path: Path, shares: list[int]) -> None:
    images = 5 + 2 * torch.randn(6, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    torch.save(images, tmp_path / "images.pt")
    start_processes(half, (tmp_path, shares), nprocs=2, start_method=SERVER.get_start_method())
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    model = network()
    for _ in range(2):
        model.zero_grad()
        step(model, images).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(result[f"grad.{name}"], parameter.grad, rtol=1e-4, atol=1e-5)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(result[f"state.{name}"], value)


def test_in_one_process_and_in_evaluation_nothing_changes() -> None:
    model, plugin = network(), SyncBatchNormAnywhere(on_gpu=False)
    changed = plugin.apply(copy.deepcopy(model))
    assert list(changed.state_dict()) == list(model.state_dict())
    images = torch.randn(4, 3, 9, 9)
    assert torch.equal(changed(images), model(images))
    assert torch.equal(changed.eval()(images), model.eval()(images))
    assert [type(module) for module in plugin.revert(changed).modules()] == [type(module) for module in model.modules()]


def test_layers_of_gpus_become_again_what_they_were_with_what_training_made_of_them():
    """No process group, no GPU: the layers alone, as Lightning changes them before a distributed training and after it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(BatchNormAct2d(4)))
    names, types = list(model.state_dict()), [type(module) for module in model.modules()]
    sync = SyncBatchNormAnywhere(on_gpu=True)
    training = sync.apply(model)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in training.modules()) == 2
    for value in training.state_dict().values():
        value.copy_(torch.full_like(value, 2))
    training = training.double().eval()  # buffers become other tensors, as they do on the way to a GPU
    scored = sync.revert(training)
    assert [type(module) for module in scored.modules()] == types
    assert list(scored.state_dict()) == names
    assert all((value == 2).all() and value.dtype in (torch.float64, torch.int64) for value in scored.state_dict().values())
    assert not any(module.training for module in scored.modules())
    assert scored(torch.ones(1, 3, 2, 2).double()).isfinite().all()
