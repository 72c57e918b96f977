"""Calls in a thread of their own."""

import threading
import time

from exfuse.tracking.background import Background
from tests.pace import patience


def test_calls_run_in_order_and_one_that_raises_holds_up_no_other() -> None:
    seen: list[object] = []
    errors: list[str] = []
    background = Background(lambda error: errors.append(str(error)))
    for number in range(100):
        background.do(lambda number=number: seen.append(number))
    background.do(lambda: 1 / 0)
    background.do(lambda: seen.append("last"))
    assert background.finish(10)
    assert seen == [*range(100), "last"]
    assert errors == ["division by zero"]


def test_a_call_that_hangs_costs_whoever_waits_no_more_than_they_allow() -> None:
    forever = threading.Event()
    background = Background(print)
    started = time.monotonic()
    background.do(forever.wait)
    background.do(lambda: None)
    assert time.monotonic() - started < patience(0.5)
    assert not background.finish(0.2)
    assert time.monotonic() - started < patience(5)
    forever.set()
