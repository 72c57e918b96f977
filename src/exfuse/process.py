"""The process that calculates: which of several it is, its device, its number format, its memory."""

import ctypes
import warnings
from typing import TYPE_CHECKING

from exfuse.errors import ConfigError

if TYPE_CHECKING:
    import torch

# Of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def is_first_process() -> bool:
    """Whether this process writes and prints: the only one, or the first of several of a distributed run."""
    from pytorch_lightning.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def choose_device(name: str) -> "torch.device":
    """The device outside of training, where Lightning chooses; ``auto`` is the GPU if there is one.

    Raises:
        ConfigError: if there is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no CUDA GPU here. Choose device=cpu.")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name}: expected auto, cpu or cuda.") from error


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


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory in the process instead of giving every large block back to the system.

    A training step frees and asks for the same large maps again and again, and the system hands out blocks page by page, each
    cleared: that costs as much as many of the layers. What the process holds at most stays about the same.

    Returns:
        Whether there is such an allocator here; elsewhere nothing changes.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
