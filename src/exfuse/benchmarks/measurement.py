"""What one line of a benchmark says, and how two things are timed against each other."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Measurement:
    """One comparison.

    Attributes:
        item: what is measured, in a few words.
        ours: median of the side under test.
        reference: median of what it is held against; None for an absolute bound.
        unit: of both, e.g. "ms", "GFLOPs", "images/s".
        ratio: the number that the target bounds.
        target: the bound as a reader wants it, e.g. "<= 1.60"; empty for a line that is only there to be compared with.
        met: whether the bound holds; nothing without a target.
        details: number formats, batch, sizes, memory.
    """

    item: str
    ours: float
    reference: float | None
    unit: str
    ratio: float
    target: str
    met: bool
    details: str = ""


def alternate(sides: Sequence[Callable[[], object]], repeats: int = 7, warm_up: int = 2, device: str = "cpu") -> list[float]:
    """Median milliseconds of each side, the sides taking turns so that a drift of the machine hits all alike.

    Args:
        sides: what to call.
        repeats: timed calls of each.
        warm_up: calls of each that are thrown away.
        device: ``cuda`` times with CUDA events, ``cpu`` with the clock.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    for repeat in range(warm_up + repeats):
        for side, taken in zip(sides, seconds, strict=True):
            elapsed = _timed(side, device)
            if repeat >= warm_up:
                taken.append(elapsed)
    return [statistics.median(taken) for taken in seconds]


def _timed(side: Callable[[], object], device: str) -> float:
    if device != "cuda":
        started = time.perf_counter()
        side()
        return 1e3 * (time.perf_counter() - started)
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    before.record()
    side()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after)
