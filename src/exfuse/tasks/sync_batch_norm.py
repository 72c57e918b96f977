"""Batch norm over the batch of all processes, on CPUs as well: torch's own synchronised layer runs on GPUs alone."""

from typing import Any

import torch
from pytorch_lightning.plugins.layer_sync import LayerSync
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, distributed, nn

from exfuse.tasks.optimised import widened


class SyncBatchNormAnywhere(LayerSync):
    """Lightning's plugin: timm's and torch's layers on GPUs, the ones below elsewhere; names of weights stay as they are.

    Args:
        on_gpu: whether the model will be trained on GPUs; asked before it is moved there.
    """

    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu = on_gpu
        self._plain: dict[str, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        if self.on_gpu:
            self._plain = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
            return convert_sync_batchnorm(model)
        for module in model.modules():
            if type(module) in _SYNCHRONISED:
                module.__class__ = _SYNCHRONISED[type(module)]  # in place: parameters, buffers and hooks stay
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for name, usual in self._plain.items():  # synchronised layers cannot score: they ask for the other processes
            synchronised = model.get_submodule(name)
            usual._parameters, usual._buffers = synchronised._parameters, synchronised._buffers
            model.set_submodule(name, usual.train(synchronised.training))
        self._plain = {}
        plain = {synchronised: usual for usual, synchronised in _SYNCHRONISED.items()}
        for module in model.modules():
            if type(module) in plain:
                module.__class__ = plain[type(module)]
        return model


class _BatchNorm2d(nn.BatchNorm2d):
    def forward(self, maps: Tensor) -> Tensor:
        return _normalise(self, maps)


class _BatchNormAct2d(BatchNormAct2d):
    def forward(self, maps: Tensor) -> Tensor:
        return self.act(self.drop(_normalise(self, maps)))


_SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: _BatchNorm2d,
    BatchNormAct2d: _BatchNormAct2d,
}


class _Sum(torch.autograd.Function):
    """Over all processes; differentiable, as each process's maps move the others' statistics."""

    @staticmethod
    def forward(_: Any, numbers: Tensor) -> Tensor:
        total = numbers.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(None, gradient)


def _normalise(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """Batch norm of (B, C, H, W) maps whose batch is spread over processes, shares of unequal size included."""
    if not norm.training or not distributed.is_initialized():
        return nn.BatchNorm2d.forward(norm, maps)
    count = maps.numel() // maps.shape[1]
    # Around a common point, the running mean, so that the difference of large sums does not eat the variance.
    centre = norm.running_mean.detach().clone() if norm.running_mean is not None else maps.new_zeros(maps.shape[1])
    wide = widened(maps)  # sums of half precision are worthless
    centred = wide - centre.view(1, -1, 1, 1)
    local = torch.cat([centred.sum((0, 2, 3)), centred.square().sum((0, 2, 3)), centred.new_tensor([count])])
    total: Tensor = _Sum.apply(local)
    sums, squares = total[:-1].div(total[-1]).chunk(2)
    variance = squares - sums.square()
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += 1
            share = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
            norm.running_mean.lerp_(centre + sums, share)
            norm.running_var.lerp_(variance * total[-1] / (total[-1] - 1), share)  # unbiased, as torch keeps it
    scale = (variance + norm.eps).rsqrt()
    shift = -sums * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    return (centred * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(maps.dtype)
