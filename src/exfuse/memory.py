"""How much memory this process may have, and that it keeps what it freed."""

import ctypes
import os
from pathlib import Path

from exfuse.errors import ConfigError

# Of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of versions 2 and 1


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
