"""Which devices and number formats there are: GPUs by their driver, without loading torch, and what a CPU multiplies."""

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pynvml

from exfuse.errors import ConfigError, plural

if TYPE_CHECKING:
    import torch

_AMD = Path("/dev/kfd")
_GPU_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), _AMD)  # NVIDIA's, those of Windows under its Linux, AMD's
_PROCESSOR = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # instructions of x86 and Arm


def choose_device(name: str) -> "torch.device":
    """The device outside of training, where Lightning chooses; ``auto`` is the GPU if there is one.

    Whoever calculates outside of training asks here first, so here float32 is made to mean float32: by itself torch lets cuDNN
    round to TensorFloat-32, and a run would be scored otherwise than at its end.

    Raises:
        ConfigError: if there is no such device.
    """
    import torch

    allow_tf32(False)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no CUDA GPU here. Choose device=cpu.")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name}: expected auto, cpu or cuda.") from error
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device={name}: torch sees no Apple GPU here. Choose device=cpu.")
    if device.type == "cuda" and (device.index or 0) >= (there := torch.cuda.device_count()):
        raise ConfigError(f"device={name}: torch sees {plural(there, 'GPU')} here, of which the first is cuda:0.")
    return device


@contextmanager
def training_formats(tf32: bool) -> Iterator[None]:
    """The number formats of a training's steps inside, float32 as such afterwards, in which every run is scored.

    Args:
        tf32: see `allow_tf32`.
    """
    allow_tf32(tf32)
    try:
        yield
    finally:
        allow_tf32(False)


def allow_tf32(allowed: bool) -> None:
    """Let matrix products (of CUDA and of oneDNN) and cuDNN's convolutions round float32 inputs to TensorFloat-32, or not.

    cuDNN's switch is the one that every release since torch 2.6 has. Some warn that it is the older one; the newer ones, set by
    kind of operator, would make those parts of torch fail that still read the older.
    """
    import torch

    torch.set_float32_matmul_precision("high" if allowed else "highest")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Please use the new API settings")
        torch.backends.cudnn.allow_tf32 = allowed


def gpu_memory(named: Sequence[str]) -> int:
    """Bytes of memory of the smallest of these GPUs, see `visible_gpus`, without loading torch.

    Raises:
        ConfigError: if NVIDIA's driver does not know one of them.
    """
    try:
        with _driver():
            handles = [
                pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)
                for name in named
            ]
            return min(int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles)
    except pynvml.NVMLError as error:
        raise ConfigError(
            f"how much memory GPU {' or '.join(named)} has, NVIDIA's driver does not say ({error}). Say by a number what is to "
            "follow from it, as runtime.micro_batch=4, or look at CUDA_VISIBLE_DEVICES."
        ) from error


def gpu_generation() -> int:
    """Major compute capability of the oldest GPU that this process may use, without loading torch; 0 without one."""
    named = visible_gpus()
    try:
        with _driver():
            everyone = range(pynvml.nvmlDeviceGetCount())
            chosen = map(int, named) if all(name.isdigit() for name in named) else everyone  # named otherwise, one may be any
            handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in chosen if number in everyone]
            return min((int(pynvml.nvmlDeviceGetCudaComputeCapability(handle)[0]) for handle in handles), default=0)
    except pynvml.NVMLError:
        return 0


def may_have_gpu() -> bool:
    """Whether there may be a GPU that this process may use, whether or not NVIDIA's driver answers for it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") is not None and not visible_gpus()
    return not hidden and any(path.exists() for path in _GPU_FILES)


def processor_knows_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 in one instruction (AVX-512, AMX, Arm), as Linux lists it."""
    with contextlib.suppress(OSError), _PROCESSOR.open() as lines:
        listed = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        return not _BFLOAT16.isdisjoint(listed.split())
    return False


def gpus_of_machine() -> int:
    """How many GPUs the driver knows, without loading torch; 0 without one."""
    try:
        with _driver():
            return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


@contextmanager
def _driver() -> Iterator[None]:
    """NVIDIA's may be asked inside; where there is none, pynvml raises its NVMLError."""
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, up to the first that is not there, as CUDA does."""
    there, named = gpus_of_machine(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(there)]
    if not (there or _AMD.exists()):  # of AMD's the driver knows nothing
        return []
    kind = next((kind for kind in ("GPU-", "MIG-") if named.startswith(kind)), "")  # all are named as the first is
    found: list[str] = []
    for name in named.split(","):
        number = re.match(r"\s*\+?(\d+)", name, re.ASCII)  # as C reads numbers, whatever follows
        if not (name.startswith(kind) if kind else number and (not there or int(number[1]) < there)):
            break
        one = name if kind or number is None else str(int(number[1]))
        if one in found:
            return []  # CUDA shows none where one is named twice
        found.append(one)
    return found


def gpus_for(accelerator: str) -> list[str]:
    """Those of them that runs on an accelerator, as Lightning's Trainer takes it, can have."""
    return [] if accelerator in ("cpu", "mps") else visible_gpus()
