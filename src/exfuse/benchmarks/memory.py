"""Memory of one training step at 512x512, in a process of its own, see `exfuse.process.in_own_process`."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from exfuse.benchmarks.report import Measurement, hold
from exfuse.benchmarks.variants import VARIANTS, batch, build_variant, training_step
from exfuse.devices import choose_device
from exfuse.memory import keep_freed_memory
from exfuse.process import answer_request, in_own_process
from exfuse.runs.costs import resident_mib

_SIZE, _IMAGES = 512, 2
_WIDE = "ExFuse, DAP wide"
_PLAIN, _CHECKPOINTED = f"{_WIDE}, plain composition", f"{_WIDE}, activations checkpointed"
# what each is held against; the others are reported
_AGAINST = {_WIDE: _PLAIN, _CHECKPOINTED: _WIDE}
_ORDER = (*(name for name in VARIANTS if name != _WIDE), _PLAIN, _WIDE, _CHECKPOINTED)


class Memory(NamedTuple):
    """Of one training step, in MiB: what autograd keeps for the backward pass (parameters apart), and the peak.

    The peak is the process's resident set on a CPU and the allocator's on CUDA, weights and gradients included.
    """

    kept: float
    peak: float


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """ResNet50, 21 classes, batch 2, 512x512, bfloat16 autocast, channels_last."""
    lines: list[Measurement] = []
    found: dict[str, Memory] = {}
    for name in _ORDER:
        progress(f"memory at 512x512: {name}")
        found[name] = Memory(*in_own_process("exfuse.benchmarks.memory", (name, device, _SIZE), f"weigh {name}"))
        reference = found.get(_AGAINST.get(name, ""))
        lines.append(
            hold(
                f"peak memory of a training step: {name}"
                + (f" / {_AGAINST[name].removeprefix(f'{_WIDE}, ')}" if reference else ""),
                found[name].peak,
                reference.peak if reference else None,
                "MiB",
                "< 1.00" if reference else "",
                f"{found[name].kept:.0f} MiB kept for the backward pass; batch 2, 512x512, bfloat16",
            )
        )
    return lines


def memory_of(name: str, device: str, size: int, backbone: str = "resnet50") -> Memory:
    """Run one training step here and weigh it; a process's resident peak never sinks, so one process weighs one model."""
    keep_freed_memory()  # as in training
    choose_device(device)
    variant = name if name in VARIANTS else _WIDE
    model = build_variant(variant, device, backbone, checkpoint_activations=name == _CHECKPOINTED, fast=name != _PLAIN)
    image, truth = batch(device, size, _IMAGES)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    kept = _Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
        training_step(model, image, truth, half=True)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else resident_mib()
    return Memory(kept.most / 2**20, peak)


class _Kept:
    """Bytes of the storages that autograd saves, each once, parameters apart."""

    def __init__(self, model: nn.Module) -> None:
        self.seen = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
        self.most = 0

    def note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.most += storage.nbytes()
        return tensor


if __name__ == "__main__":
    answer_request(lambda asked: memory_of(*asked))
