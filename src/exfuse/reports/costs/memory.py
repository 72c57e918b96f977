"""Peak memory of training on a CPU: a process's peak never sinks, so one process weighs one model.

It reads a variant as JSON from its standard input:  python -m exfuse.reports.costs.memory
"""

import subprocess
import sys

import msgspec
import torch

from exfuse.config import search_path
from exfuse.errors import UserError
from exfuse.process import keep_freed_memory
from exfuse.reports.costs.turns import TrainingStep, Variant, build_from_record
from exfuse.runs.costs import resident_mib

_STEPS = 3  # the first makes the optimiser's state, the others hold it
_MODULE = "exfuse.reports.costs.memory"


def peak_mib(variant: Variant, images: int, threads: int) -> float:
    """MiB that a process which trains this variant holds at most, torch included.

    Args:
        variant: to build.
        images: of one optimiser step.
        threads: of torch.

    Raises:
        UserError: if that process fails, as for want of memory.
    """
    asked = msgspec.json.encode(
        {"variant": variant, "images": images, "threads": threads, "folders": [*map(str, search_path.added())]}
    ).decode()
    done = subprocess.run([sys.executable, "-m", _MODULE], input=asked, capture_output=True, text=True)
    try:
        return float(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise UserError(
            f"The process that was to weigh row {variant.rows[0]} ended with status {done.returncode}: {said}. Choose "
            "batch_size= if memory was short."
        ) from error


def weigh(variant: Variant, images: int, threads: int) -> float:
    """What `peak_mib` does, in this process."""
    torch.set_num_threads(threads)
    keep_freed_memory()  # as in training
    run, task = build_from_record(variant)
    step = TrainingStep(task, run, images)
    for _ in range(_STEPS):
        step()
    return resident_mib()


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read())
    search_path.use(asked["folders"])
    print(weigh(msgspec.convert(asked["variant"], Variant), asked["images"], asked["threads"]))
