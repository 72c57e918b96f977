"""Run a benchmark module in a process of its own and take its measurements.

Memory and allocator state of one benchmark then say nothing about the next. The process runs this file.
"""

import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Callable

import msgspec

from exfuse.benchmarks.report import Measurement
from exfuse.devices import choose_device
from exfuse.errors import UserError

_STEP, _RESULTS = "exfuse bench step: ", "exfuse bench results: "  # how these lines begin among what libraries print
_SHOWN = 15  # lines of what a failed benchmark said


class BenchmarkError(UserError):
    """A benchmark that ended without measurements."""


def run_module(module: str, device: str, threads: int, progress: Callable[[str], None]) -> list[Measurement]:
    """Measure ``module`` with ``threads`` threads of torch.

    Args:
        module: dotted name; offers ``measure(device, progress)``.
        device: cpu or cuda.
        threads: of torch on the CPU.
        progress: called with each step that the module announces.

    Raises:
        BenchmarkError: with the end of what the process said.
    """
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "exfuse.benchmarks.running", module, device]
    said: list[str] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_STEP):
                progress(line.removeprefix(_STEP).strip())
            else:
                said.append(line)
    if process.returncode or not said or not said[-1].startswith(_RESULTS):
        raise BenchmarkError(f"{module} ended with status {process.returncode}:\n{''.join(said[-_SHOWN:])}")
    return msgspec.json.decode(said[-1].removeprefix(_RESULTS), type=list[Measurement])


def _measure(module: str, device: str) -> None:
    """Print a line a step, then a module's measurements as JSON."""
    gc.set_threshold(100_000, 20, 20)  # as the command's own processes, see `exfuse.__main__`
    choose_device(device)  # sets what float32 means
    measured = importlib.import_module(module).measure(device, lambda step: print(f"{_STEP}{step}", flush=True))
    print(f"\n{_RESULTS}{msgspec.json.encode(measured).decode()}", flush=True)


if __name__ == "__main__":
    _measure(*sys.argv[1:])
