"""The process that calculates: which of several it is, its device, its number format, its memory."""

import ctypes
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from exfuse.errors import ConfigError

if TYPE_CHECKING:
    import torch

# Of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of versions 2 and 1


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


def memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or less where a container or a batch system says so."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in _cgroups():
        for name in _CGROUP_LIMITS:
            try:
                limit = min(limit, int((folder / name).read_text()))
            except (OSError, ValueError):  # not there, or "max"
                continue
    return limit


def _cgroups() -> list[Path]:
    """The folders of this process's control group and those above it."""
    root = Path("/sys/fs/cgroup")
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("\n")[2].rpartition(":")[2].lstrip("/")
    except OSError:
        return []
    return [root / own, *(root / own).parents][: len(Path(own).parts) + 1]


def check_memory(needed: float, what: str, advice: str) -> None:
    """Refuse what cannot fit before it is tried: the system would end the process without a word, or another one.

    Args:
        needed: bytes that it takes at the least.
        what: takes them, for the message.
        advice: a sentence that says what to choose instead.

    Raises:
        ConfigError: if this process may not use so much.
    """
    if needed > (limit := memory_limit()):
        raise ConfigError(
            f"{what} takes {needed / 2**30:,.1f} GiB at the least, and this process may use {limit / 2**30:,.1f} GiB. {advice}"
        )
