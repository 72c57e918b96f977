"""Where the time of a step goes:  python -m exfuse.benchmarks.profiling "ExFuse, DAP last" [--float32] [--inference]"""

import argparse
import os
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from exfuse.benchmarks.variants import VARIANTS, batch, build, training_step
from exfuse.files import write_atomically
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
    parser.add_argument("--output", type=Path, help="also write the table there, as Markdown")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    rows = _profile(options.variant, not options.float32, options.inference)
    kind = "fused inference, float32" if options.inference else f"training step, {'float32' if options.float32 else 'bfloat16'}"
    title = f"{options.variant}: {kind}, {_SIZE}x{_SIZE}, {options.threads} threads, operators by their own time"
    table = Table(title=title, title_justify="left")
    for header in ("operator", "shapes", "ms a step", "share %"):
        table.add_column(header, overflow="fold", justify="right" if header in ("ms a step", "share %") else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if options.output:
        lines = [f"{title}\n", "| operator | shapes | ms a step | share % |", "| :--- | :--- | ---: | ---: |"]
        text = "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
        write_atomically(options.output, lambda path: path.write_text(text))


def _profile(variant: str, half: bool, inference: bool) -> list[tuple[str, str, str, str]]:
    model = build(variant, "cpu")
    image, truth = batch("cpu", _SIZE, images=1 if inference else 2)
    if inference:
        model = fuse(model.eval())

    def step() -> None:
        if inference:
            with torch.inference_mode():
                model(image)
        else:
            training_step(model, model, image, truth, half)

    step()  # warm-up
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in track(range(_STEPS), description="Profiling", transient=True):
            step()
    events = profiler.key_averages(group_by_input_shape=True)
    total = sum(event.self_cpu_time_total for event in events)
    largest = sorted(events, key=lambda event: -event.self_cpu_time_total)[:_SHOWN]
    return [
        (
            event.key,
            " ".join("x".join(map(str, shape)) for shape in event.input_shapes[:2] if shape),
            f"{event.self_cpu_time_total / 1e3 / _STEPS:.1f}",
            f"{100 * event.self_cpu_time_total / total:.1f}",
        )
        for event in largest
    ]


if __name__ == "__main__":
    main()
