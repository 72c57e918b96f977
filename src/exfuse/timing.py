"""How long a call takes on a device."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def time_ms(call: Callable[[], object], device: "torch.device") -> float:
    """Milliseconds that ``call`` takes on ``device``: by CUDA's events there, by the clock on a CPU."""
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started)
    import torch

    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    before.record()
    call()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after)


def median_ms(
    calls: Sequence[Callable[[], object]],
    repeats: int = 7,
    warm_up: int = 2,
    device: "torch.device | str" = "cpu",
    most: float = math.inf,
) -> list[float]:
    """Median milliseconds of each call, the calls taking turns so that a drift of the machine hits all alike.

    Args:
        calls: what to time.
        repeats: timed calls of each.
        warm_up: calls of each that are thrown away.
        device: that does the work.
        most: seconds of timed calls after which no more are made.
    """
    import torch

    device, taken = torch.device(device), list[list[float]]()
    for turn in range(-warm_up, repeats):
        times = [time_ms(call, device) for call in calls]
        if turn >= 0:
            taken.append(times)
        if sum(map(sum, taken)) > 1e3 * most:
            break
    return [statistics.median(times) for times in zip(*taken, strict=True)]


def now(device: "torch.device") -> float:
    """The clock's seconds, once a GPU has done what it was sent."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
