import subprocess
import sys

import pytest

from exfuse.memory import keep_freed_memory

# A block far above glibc's usual bound, freed: resident before and after, in pages.
_PROGRAM = """
import ctypes, pathlib, sys
from exfuse.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1])
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
before = resident()
block = library.malloc(2**28)
ctypes.memset(block, 1, 2**28)
library.free(block)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and needs glibc")
def test_freed_blocks_stay_with_the_process_only_if_asked_for():
    if not keep_freed_memory():
        pytest.skip("this C library is not glibc")
    pages = {}
    for mode in ("keep", "usual"):
        outcome = subprocess.run([sys.executable, "-c", _PROGRAM, mode], capture_output=True, text=True, check=True)
        pages[mode] = int(outcome.stdout)
    assert pages["keep"] > 2**28 / 4096 * 0.9
    assert pages["usual"] < 2**28 / 4096 * 0.1
