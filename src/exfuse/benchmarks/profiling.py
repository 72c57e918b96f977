"""Where the time of a step goes:  python -m exfuse.benchmarks.profiling "ExFuse, DAP last" [--float32] [--inference]"""

import argparse
import os

import torch
from torch.profiler import ProfilerActivity, profile

from exfuse.benchmarks.variants import VARIANTS, batch, build, training_step
from exfuse.fusing.fuse import fuse
from exfuse.runs.allocator import keep_freed_memory

_SIZE, _STEPS, _SHOWN = 256, 3, 12


def main() -> None:
    """Profile training steps or fused inference of a variant on the CPU; print operators by their own time."""
    parser = argparse.ArgumentParser("python -m exfuse.benchmarks.profiling", description=__doc__)
    parser.add_argument("variant", choices=list(VARIANTS))
    parser.add_argument("--float32", action="store_true", help="instead of autocast to bfloat16")
    parser.add_argument(
        "--inference", action="store_true", help="the fused model, batch 1, float32, instead of a training step"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(profiled(options.variant, not options.float32, options.inference))


def profiled(variant: str, half: bool, inference: bool, backbone: str = "resnet50") -> str:
    """The operators that take the most time by themselves, in milliseconds over three steps."""
    model = build(variant, "cpu", backbone)
    image, truth = batch("cpu", _SIZE, images=1 if inference else 2)
    fused = fuse(model.eval()) if inference else None

    def step() -> None:
        if fused is None:
            training_step(model, image, truth, half)
            return
        with torch.inference_mode():
            fused(image)

    step()  # warm-up
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(_STEPS):
            step()
    events = profiler.key_averages(group_by_input_shape=True)
    return events.table(sort_by="self_cpu_time_total", row_limit=_SHOWN, max_name_column_width=40)


if __name__ == "__main__":
    main()
