"""What a command imports, and what it does without."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_unused() -> Iterator[None]:
    """Import what is imported here without what libraries ask for and nobody uses, unless this process has it already.

    timm imports W&B, where it is installed, for scripts of its own: half a second, and temporary folders that the first fork of
    this process to end would take from all others. torchmetrics imports scipy.signal, and with it half of SciPy, to see whether
    it has ``hamming``: more than half a second. Both can be imported as ever afterwards.
    """
    signal = ModuleType("scipy.signal")
    signal.hamming = None  # type: ignore[attr-defined]
    stand_ins = {"wandb": None, "scipy.signal": signal}  # None is Python's own mark of what cannot be imported
    stand_ins = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(stand_ins)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
