"""A tracker shows a run elsewhere while it trains. The run's folder stays the truth, and whatever it meets, it goes on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from exfuse.errors import first_line
from exfuse.process import is_first_process
from exfuse.tasks.prediction import PredictedImage
from exfuse.terminal import Console
from exfuse.tracking.background import Background

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 255  # exit codes; 255 is what W&B itself gives a run that Ctrl-C ended


@dataclass(frozen=True)
class RunInfo:
    """What identifies a run to its loggers.

    Attributes:
        folder: local files go below it.
        key: of the run or backbone.
        stage: ``train``, ``pretrain`` or ``evaluate``.
        name: for people.
        study: that asked for the run, if one did.
        tags: the techniques in it.
        config: flat, one value a key, and the whole config under ``config``.
    """

    folder: Path
    key: str
    stage: str
    name: str
    study: str | None
    tags: Sequence[str]
    config: Mapping[str, Any]

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """What of the config is a value, for trackers that take no more."""
        return {name: value for name, value in self.config.items() if isinstance(value, (bool, int, float, str))}


class Tracker(ABC):
    """One place that shows a run, in a thread of its own: training never waits for it, and what it cannot do is said once.

    No method raises because that place cannot be reached.

    Args:
        info: of the run.
        examples: how many pictures it wants of a segmentation's val images.
        timeout: seconds that its end may take.

    Attributes:
        place: what it is called.
        failed: whether something did not reach that place, which was said then.
    """

    place: str
    failed = False

    def __init__(self, info: RunInfo, examples: int, timeout: float) -> None:
        self._info, self.examples, self._timeout = info, examples, timeout
        self._background: Background | None = None

    def start(self) -> None:
        """Have it opened."""
        self._background = Background(self._say)
        self._do(self.open)

    def finish(self, exit_code: int) -> None:
        """End with `SUCCESS`, `FAILURE` or `INTERRUPTED`, within a bounded time."""
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
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Points of curves at an optimiser's step; ``epoch`` is among the values where one is known."""

    @abstractmethod
    def log_examples(self, examples: Sequence[PredictedImage], classes: Sequence[str], step: int) -> None:
        """Pictures with truth and prediction, while the run trains."""

    @abstractmethod
    def log_outcome(self, counts: NDArray[np.int64], examples: Sequence[PredictedImage], classes: Sequence[str]) -> None:
        """Confusion counts (C, C) of the final scoring, row = true class, and a table of the final pictures."""

    @abstractmethod
    def summarise(self, values: Mapping[str, Any]) -> None:
        """What the run ended with: final scores and costs."""

    @abstractmethod
    def close(self, exit_code: int) -> None:
        """End with `SUCCESS`, `FAILURE` or `INTERRUPTED`."""

    def _do(self, call: Callable[[], object]) -> None:
        if self._background is not None:
            self._background.do(call)

    def _say(self, error: Exception) -> None:
        if not self.failed:
            self.failed = True
            text = f"{self.place}: {first_line(error)}. The run goes on and is kept locally; later: {self.later()}"
            Console(stderr=True).print(text, soft_wrap=True, highlight=False)


class TrackerLogger(Logger):
    """Lightning's view of a tracker: it gets every scalar that is logged."""

    def __init__(self, tracker: Tracker, info: RunInfo) -> None:
        super().__init__()
        self.tracker = tracker
        self._info = info

    @property
    def name(self) -> str:
        return type(self.tracker).__name__

    @property
    def version(self) -> str:
        return self._info.key

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand the values on; Lightning gives the step with all of them."""
        self.tracker.log(metrics, step or 0)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Nothing: the tracker has the whole config from its start."""


def trackers_of(loggers: Sequence[Logger]) -> list[Tracker]:
    """The trackers among a trainer's loggers; none for CSV alone."""
    return [logger.tracker for logger in loggers if isinstance(logger, TrackerLogger)]


@contextmanager
def tracked(loggers: Sequence[Logger]) -> Iterator[list[Tracker]]:
    """Start the trackers among ``loggers`` and end each with the exit state of what happens inside.

    Only the first process of a distributed run has any.
    """
    trackers = trackers_of(loggers) if is_first_process() else []
    exit_code = FAILURE
    try:
        for tracker in trackers:
            tracker.start()
        yield trackers
        exit_code = SUCCESS
    except KeyboardInterrupt:
        exit_code = INTERRUPTED
        raise
    finally:
        for tracker in trackers:
            tracker.finish(exit_code)
