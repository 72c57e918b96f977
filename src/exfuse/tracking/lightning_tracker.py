"""Any logger of Lightning as a tracker of runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger

from exfuse.tasks.prediction import PredictedImage
from exfuse.tracking.tracker import SUCCESS, RunInfo, Tracker


class LightningTracker(Tracker):
    """Curves, what the run is, and what it ended with; pictures are no part of what these loggers have in common.

    Args:
        info, timeout: see `Tracker`.
        make: makes the logger.
    """

    def __init__(self, info: RunInfo, make: Callable[[], Logger], timeout: float) -> None:
        super().__init__(info, 0, timeout)
        self._make = make
        self.place, self._last = getattr(getattr(make, "func", make), "__name__", "The tracker"), 0

    def open(self) -> None:
        """See `Tracker.open`."""
        self._logger = self._make()
        self.place = type(self._logger).__name__
        self._logger.log_hyperparams(self._info.parameters)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`."""
        self._last = max(self._last, step)
        self._do(lambda: self._logger.log_metrics(dict(values), step))

    def log_examples(self, examples: Sequence[PredictedImage], classes: Sequence[str], step: int) -> None:
        """Nothing."""

    def log_outcome(self, counts: NDArray[np.int64], examples: Sequence[PredictedImage], classes: Sequence[str]) -> None:
        """Nothing."""

    def summarise(self, values: Mapping[str, Any]) -> None:
        """See `Tracker.summarise`."""
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
        self._do(lambda: self._logger.log_metrics(numbers, self._last))

    def close(self, exit_code: int) -> None:
        """See `Tracker.close`."""
        self._logger.finalize("success" if exit_code == SUCCESS else "failed")
