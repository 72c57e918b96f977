"""Run a benchmark module in a process of its own and take its measurements.

Memory and allocator state of one benchmark then say nothing about the next. The process runs this file.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from exfuse.benchmarks.measurement import Measurement
from exfuse.errors import UserError
from exfuse.files import write_json

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
    with tempfile.TemporaryDirectory() as folder:
        results, said = Path(folder) / "results.json", Path(folder) / "output.txt"
        reading, writing = os.pipe()
        with said.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "exfuse.benchmarks.running", module, device, str(results), str(writing)],
                env=environment,
                pass_fds=[writing],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        os.close(writing)
        try:
            with os.fdopen(reading) as pipe:
                for line in pipe:
                    progress(line.strip())
            status = process.wait()
        finally:
            process.kill()  # nothing, unless this was interrupted
            process.wait()
        if status or not results.is_file():
            end = "\n".join(said.read_text(errors="replace").splitlines()[-_SHOWN:])
            raise BenchmarkError(f"{module} ended with status {status}:\n{end}")
        return [Measurement(**measured) for measured in json.loads(results.read_text())]


def _measure(module: str, device: str, results: str, progress: str) -> None:
    """Write a module's measurements as JSON to the file ``results``, a line a step to the open file number ``progress``."""
    with os.fdopen(int(progress), "w", buffering=1) as pipe:
        measured = importlib.import_module(module).measure(device, lambda step: print(step, file=pipe))
    write_json(Path(results), [asdict(measurement) for measurement in measured])


if __name__ == "__main__":
    _measure(*sys.argv[1:])
