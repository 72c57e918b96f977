"""A tracker whose calls run one after another in a thread of their own, so that no training waits for a network."""

import queue
import threading
from abc import abstractmethod
from collections.abc import Callable

from exfuse.errors import first_line
from exfuse.terminal import Console
from exfuse.tracking.tracker import RunInfo, Tracker


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


class QueuedTracker(Tracker):
    """A tracker that works in a thread of its own: training never waits for it, and what it cannot do is said once.

    Args:
        info: of the run.
        examples: see `Tracker`.
        timeout: seconds that its end may take.
    """

    place: str  # what it is called

    def __init__(self, info: RunInfo, examples: int, timeout: float) -> None:
        self._info, self.examples, self._timeout = info, examples, timeout
        self._background: Background | None = None

    def start(self) -> None:
        """See `Tracker.start`."""
        self._background = Background(self._say)
        self._do(self.open)

    def finish(self, exit_code: int) -> None:
        """See `Tracker.finish`."""
        self._do(lambda: self.close(exit_code))
        if self._background is not None and not self._background.finish(self._timeout):
            self._say(TimeoutError(f"it did not answer within {self._timeout:g} s"))
        self._background = None

    def later(self) -> str:
        """The command that does what was not done."""
        return f"exfuse runs log {self._info.key} tracker=..."

    @abstractmethod
    def open(self) -> None:
        """Begin, or go on with what an earlier start of the same run began."""

    @abstractmethod
    def close(self, exit_code: int) -> None:
        """End; see `Tracker.finish`."""

    def _do(self, call: Callable[[], object]) -> None:
        if self._background is not None:
            self._background.do(call)

    def _say(self, error: Exception) -> None:
        if not self.failed:
            self.failed = True
            text = f"{self.place}: {first_line(error)}. The run goes on and is kept locally; later: {self.later()}"
            Console(stderr=True).print(text, soft_wrap=True, highlight=False)
