"""One benchmark module in a process of its own:  python -m exfuse.benchmarks.child MODULE DEVICE RESULTS PROGRESS

Memory and allocator state of one benchmark then say nothing about the next. ``src.bench`` starts this.
"""

import importlib
import os
import sys
from dataclasses import asdict
from pathlib import Path

from exfuse.files import write_json


def main(module: str, device: str, results: str, progress: str) -> None:
    """Measure, and write the measurements as JSON.

    Args:
        module: dotted name; offers ``measure(device, progress)``.
        device: cpu or cuda.
        results: path of the file to write.
        progress: number of an open file that takes a line a step.
    """
    with os.fdopen(int(progress), "w", buffering=1) as pipe:
        measured = importlib.import_module(module).measure(device, lambda step: print(step, file=pipe))
    write_json(Path(results), [asdict(measurement) for measurement in measured])


if __name__ == "__main__":
    main(*sys.argv[1:])
