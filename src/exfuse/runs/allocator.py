"""Memory that a CPU step frees is kept for the next one."""

import ctypes

# Of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


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
