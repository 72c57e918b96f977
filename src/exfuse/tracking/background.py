"""Calls that run one after another in a thread of their own, so that no training waits for a network."""

import queue
import threading
from collections.abc import Callable


class Background:
    """Run calls in the order in which they come.

    A call that hangs holds up the later ones and nobody else: the thread ends with the process, whatever it does.

    Args:
        on_error: gets what a call raises, in the thread; the next call runs all the same.
    """

    def __init__(self, on_error: Callable[[Exception], object]) -> None:
        self._calls: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._on_error = on_error
        self._over = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def do(self, call: Callable[[], object]) -> None:
        """Have ``call`` run after those before it; returns at once."""
        self._calls.put(call)

    def finish(self, seconds: float) -> bool:
        """Wait for the calls so far, at most so long; whether all are done. Those that have not begun by then never do."""
        self._calls.put(None)
        self._thread.join(seconds)
        self._over = True
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None and not self._over:
            try:
                call()
            except Exception as error:  # whatever it is, the thread that asked must not see it
                self._on_error(error)
