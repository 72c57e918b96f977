"""Which memory layout a training's steps are faster in, measured on its own first images."""

import copy
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from exfuse.timing import median_ms

_WARM_UP, _REPEATS = 3, 5


def is_worth_measuring(task: pl.LightningModule, device: torch.device) -> bool:
    """Whether nobody knows the faster layout of training steps on ``device``.

    On CPUs it is channels_last; on GPUs that is slow with channels in no multiple of 8, or in groups. Compiled models
    choose their own, and who asks for determinism gets no measurement.
    """
    compiled = any(module._compiled_call_impl is not None for module in task.modules())
    return device.type == "cuda" and not compiled and not torch.are_deterministic_algorithms_enabled()


def faster_layout(task: Any) -> bool:
    """Whether steps are faster in channels_last than contiguous; the same answer in all processes.

    The steps are those of a copy of the model; one of which no copy learns stays contiguous. Random numbers are afterwards what
    they were, and the task is on its device.

    Args:
        task: an `exfuse.tasks.optimised.OptimisedTask` whose Trainer knows its data.
    """
    trainer, data = task.trainer, task.trainer.datamodule
    device, images = trainer.strategy.root_device, len(data.train_set)
    share = data.batch_size // (trainer.world_size * trainer.accumulate_grad_batches)
    batch = data.train_batch([place % images for place in range(share)], device)
    task.to(device)
    model = task.model
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    task.log = task.log_dict = lambda *_, **__: None  # nothing of this belongs into a curve

    def step() -> None:
        task.zero_grad(set_to_none=True)
        with trainer.precision_plugin.train_step_context():
            loss = task.training_step(batch, 0)
        loss.backward()

    try:
        task.model = copy.deepcopy(model)  # a module may keep more of a step than a buffer
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            faster = is_faster_in_channels_last(step, task.use_layout, device)
    except Exception:  # of somebody's code, which cannot be copied, or of a copy alone; else the training raises it again
        faster = False
    finally:
        del task.log, task.log_dict
        task.model = model
        task.zero_grad(set_to_none=True)
        for name, value in model.named_buffers():  # a copied function still calls the layers that it was made with
            value.copy_(buffers[name])
    return bool(trainer.strategy.broadcast(faster))


def is_faster_in_channels_last(step: Callable[[], object], use_layout: Callable[[bool], object], device: torch.device) -> bool:
    """Whether ``step`` takes less time after ``use_layout(True)`` than after ``use_layout(False)``."""
    milliseconds = []
    for channels_last in (True, False):
        use_layout(channels_last)
        milliseconds += median_ms([step], _REPEATS, _WARM_UP, device)
    return milliseconds[0] <= milliseconds[1]
