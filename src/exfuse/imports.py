"""What a command imports, and what it does without."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_wandb() -> Iterator[None]:
    """Import what is imported here without W&B, unless this process has it already.

    timm imports it, where it is installed, for scripts of its own: half a second, and temporary folders that the first fork of
    this process to end would take from all others.
    """
    if "wandb" in sys.modules:
        yield
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]  # Python's own mark of what cannot be imported
    try:
        yield
    finally:
        del sys.modules["wandb"]
