"""A mirror shows a run elsewhere while it trains. The run's folder stays the truth, and whatever a mirror meets, it goes on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from exfuse.runs.processes import is_first_process
from exfuse.tracking.example import Example

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 255  # exit codes; 255 is what W&B itself gives a run that Ctrl-C ended


@dataclass(frozen=True)
class RunCard:
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


class Mirror(ABC):
    """One place that shows a run. No method raises because that place cannot be reached.

    Attributes:
        examples: how many pictures it wants of a segmentation's val images.
    """

    examples: int

    @abstractmethod
    def start(self) -> None:
        """Begin, or go on with what an earlier start of the same run began."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Points of curves at an optimiser's step; ``epoch`` is among the values where one is known."""

    @abstractmethod
    def log_examples(self, examples: Sequence[Example], classes: Sequence[str], step: int) -> None:
        """Pictures with truth and prediction, while the run trains."""

    @abstractmethod
    def log_outcome(self, counts: NDArray[np.int64], examples: Sequence[Example], classes: Sequence[str]) -> None:
        """Confusion counts (C, C) of the final scoring, row = true class, and a table of the final pictures."""

    @abstractmethod
    def summarise(self, values: Mapping[str, Any]) -> None:
        """What the run ended with: final scores and costs."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """End with `SUCCESS`, `FAILURE` or `INTERRUPTED`, within a bounded time."""


class MirrorLogger(Logger):
    """Lightning's view of a mirror: it gets every scalar that is logged."""

    def __init__(self, mirror: Mirror, card: RunCard) -> None:
        super().__init__()
        self.mirror = mirror
        self._card = card

    @property
    def name(self) -> str:
        return type(self.mirror).__name__

    @property
    def version(self) -> str:
        return self._card.key

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand the values on; Lightning gives the step with all of them."""
        self.mirror.log(metrics, step or 0)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Nothing: the mirror has the whole config from its start."""


def mirrors_of(loggers: Sequence[Logger]) -> list[Mirror]:
    """The mirrors among a trainer's loggers; none for CSV alone."""
    return [logger.mirror for logger in loggers if isinstance(logger, MirrorLogger)]


@contextmanager
def mirrored(loggers: Sequence[Logger]) -> Iterator[list[Mirror]]:
    """Start the mirrors among ``loggers`` and end each with the exit state of what happens inside.

    Only the first process of a distributed run has any.
    """
    mirrors = mirrors_of(loggers) if is_first_process() else []
    exit_code = FAILURE
    try:
        for mirror in mirrors:
            mirror.start()
        yield mirrors
        exit_code = SUCCESS
    except KeyboardInterrupt:
        exit_code = INTERRUPTED
        raise
    finally:
        for mirror in mirrors:
            mirror.finish(exit_code)
