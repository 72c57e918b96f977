"""What a variant costs: parameters, multiply-adds, latency, throughput of training and peak memory."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from exfuse.errors import rounded
from exfuse.models.backbone import image_channels
from exfuse.models.modes import modes_kept
from exfuse.store.costs import Costs
from exfuse.timing import median_ms, now

COUNTER = "torch FlopCounterMode / 2: convolutions and matrix products of one forward pass"
CUDA_MEMORY, CPU_MEMORY = "CUDA allocator", "process (resident set)"
_WARM_UP, _REPEATS, _SECONDS = 3, 30, 5.0


def gigamacs(model: nn.Module, size: int) -> float:
    """Multiply-adds in 10^9 of one evaluation of one image of size x size, by `COUNTER`; norms and sums are left out.

    Args:
        model: its mode is left as it was.
        size: side of the image in pixels.
    """
    with modes_kept(model), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.eval()(_image(model, size))
    return counter.get_total_flops() / 2e9


def latency_ms(model: nn.Module, size: int) -> float:
    """Median milliseconds of one evaluation of one image of size x size in float32, on the model's device.

    Args:
        model: left in evaluation mode.
        size: side of the image in pixels.
    """
    device = next(model.parameters()).device
    return median_ms([evaluation(model, size)], _REPEATS, _WARM_UP, device, _SECONDS)[0]


def evaluation(model: nn.Module, size: int) -> Callable[[], object]:
    """What `latency_ms` times: one evaluation of one image of size x size in float32, on the model's device.

    Args:
        model: left in evaluation mode.
        size: side of the image in pixels.
    """
    image = _image(model.eval(), size)

    def evaluate() -> object:
        with torch.inference_mode():
            return model(image)

    return evaluate


class TrainingCosts(Callback):
    """Watches a whole ``fit``: images a second from the loader to the optimiser's step, and peak memory.

    An epoch is timed from the end of its first batch to the end of its last, so that starting workers, validation and
    checkpoints do not count; the median over epochs is kept, the first left out where there are others.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.rates: list[float] = []
        self.peak_memory_mib = 0.0
        self._started = 0.0

    @property
    def images_per_second(self) -> float | None:
        """Over all processes; None where no epoch of this start had a second batch."""
        rates = self.rates[1:] or self.rates
        return statistics.median(rates) if rates else None

    def on_fit_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        batch_idx, batches = arguments[-1], int(trainer.num_training_batches)
        if batch_idx not in (0, batches - 1) or batches == 1:
            return
        ended = now(trainer.strategy.root_device)
        if batch_idx == 0:
            self._started = ended
        else:
            images = (batches - 1) * self.batch_size / trainer.accumulate_grad_batches
            self.rates.append(images / (ended - self._started))

    def on_fit_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        device = trainer.strategy.root_device
        self.peak_memory_mib = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib()


class TrainingTime(Callback):
    """Seconds of a whole ``fit`` over all of its starts: a checkpoint holds what was over when it was written."""

    def __init__(self) -> None:
        self._before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Until now."""
        return self._before + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._before = state_dict["seconds"]


def describe_costs(model: nn.Module, size: int, watched: TrainingCosts) -> Costs:
    """Every cost, measured on the device where ``model`` is.

    Args:
        model: left in evaluation mode.
        size: side of the square image that multiply-adds and latency are for: the recipe's crop.
        watched: of the run's ``fit``.
    """
    device = next(model.parameters()).device
    return Costs(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gigamacs=gigamacs(model, size),
        input=(1, image_channels(model), size, size),
        counter=COUNTER,
        latency_ms=latency_ms(model, size),
        train_images_per_second=watched.images_per_second,
        peak_memory_mib=watched.peak_memory_mib,
        memory_of=CUDA_MEMORY if device.type == "cuda" else CPU_MEMORY,
    )


def resident_mib() -> float:
    """The most memory that this process ever held, in MiB."""
    try:
        # Not getrusage where there is a choice: on Linux its peak begins with that of the process that started this one.
        with Path("/proc/self/status").open() as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def _image(model: nn.Module, size: int) -> torch.Tensor:
    return torch.zeros(1, image_channels(model), size, size, device=next(model.parameters()).device)


@dataclass(frozen=True)
class PretrainingCost:
    """Multiply-adds of convolutions and linear layers by torch's FlopCounterMode (two FLOPs each), norms left out.

    Attributes:
        size: side of the square image in pixels.
        gigamacs: of one image, forward.
        parameters: of backbone, head and branches.
        images: how many pass through over all epochs.
    """

    size: int
    gigamacs: float
    parameters: int
    images: int

    @property
    def exaflops(self) -> float:
        """Of the whole training: two FLOPs per multiply-add, a backward pass counted as two forward ones."""
        return 3 * 2 * self.gigamacs * 1e9 * self.images / 1e18

    def __str__(self) -> str:
        total = f"{self.exaflops:.1f} EFLOP" if self.exaflops >= 0.1 else f"{rounded(1e3 * self.exaflops)} PFLOP"
        image = f"{rounded(self.gigamacs, 3)} GMACs an image at {self.size} px"
        return f"{self.parameters / 1e6:.2f} M parameters, {image}, {self.images:,} images in all, {total}"


def count_cost(model: nn.Module, size: int, images: int) -> PretrainingCost:
    """Count one forward pass of ``model`` for one image of size x size.

    Args:
        model: its mode is left as it was.
        size: side of the image.
        images: how many pass through over all epochs.
    """
    return PretrainingCost(size, gigamacs(model, size), sum(weight.numel() for weight in model.parameters()), images)
