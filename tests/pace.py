"""How fast this machine is: what tests allow in seconds is what a usual machine takes, and more where it is slower just now."""

import time
from collections.abc import Callable
from functools import cache

# An empty loop, and the seconds that it takes on a core that does nothing else. A machine that halts for moments shows it in
# no shorter one.
_TURNS, _USUAL = 20_000_000, 0.2


def processor(seconds: float, taken: float) -> float:
    """Seconds of processor time that something may cost which costs so many on a usual machine; see `_pace`.

    Args:
        seconds: on a usual machine.
        taken: what it cost; nothing is measured unless that is more.
    """
    return seconds if taken < seconds else seconds * _pace(time.process_time)


def patience(seconds: float) -> float:
    """Seconds to wait for something that a usual machine does in less than so many; see `_pace`."""
    return seconds * _pace_at_first()


def _pace(clock: Callable[[], float]) -> float:
    """How many times slower than a usual machine this one is just now, at least 1."""
    began = clock()
    for _ in range(_TURNS):
        pass
    return max(1.0, (clock() - began) / _USUAL)


@cache
def _pace_at_first() -> float:
    return _pace(time.monotonic)
