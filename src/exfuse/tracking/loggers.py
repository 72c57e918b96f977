"""Where training curves go: always into the run's folder, and to the trackers that are chosen."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger

from exfuse.errors import ConfigError, needing
from exfuse.limits import NonNegative, Positive, PositiveFloat
from exfuse.tracking.showing import ExamplePictures, GradientNorms
from exfuse.tracking.tracker import RunInfo, Tracker, TrackerLogger


class Logging(NamedTuple):
    """What a choice of ``conf/logger`` adds to a trainer."""

    loggers: list[Logger]
    callbacks: list[Callback]


def csv_logging(info: RunInfo, *, gradients: Positive | None) -> Logging:
    """metrics.csv under the folder's ``logs``, one version per start of the run.

    Args:
        info: of the run.
        gradients: log norms of gradients every so many steps; None for never.
    """
    callbacks: list[Callback] = [GradientNorms(gradients)] if gradients else []
    return Logging([CSVLogger(info.folder, name="logs")], callbacks)


def wandb_logging(
    info: RunInfo,
    *,
    gradients: Positive | None,
    project: str,
    entity: str | None,
    group: str | None,
    mode: Literal["offline", "online"],
    timeout: PositiveFloat,
    examples: NonNegative,
    examples_every: Positive,
) -> Logging:
    """What `csv_logging` writes, and the same in a W&B run.

    Args:
        info: of the run.
        gradients: see `csv_logging`.
        project, entity: W&B's own.
        group: of related runs; None for the study.
        mode: ``offline`` or ``online``.
        timeout: seconds that W&B may take, at the start to answer and at the end to take what is left.
        examples: val images with masks, of a segmentation; 0 for none.
        examples_every: validations between two showings of them.
    """
    from exfuse.tracking.wandb_tracker import WandbTracker

    tracker = WandbTracker(info, project, entity, group or info.study, mode, timeout, examples)
    return _logging(info, gradients, tracker, examples_every)


def tensorboard_logging(
    info: RunInfo, *, gradients: Positive | None, timeout: PositiveFloat, examples: NonNegative, examples_every: Positive
) -> Logging:
    """What `csv_logging` writes, and the same for TensorBoard in the run's folder; see `wandb_logging`.

    Raises:
        ConfigError: if TensorBoard is not installed.
    """
    with needing("tensorboard", "logger=tensorboard"):
        from exfuse.tracking.tensorboard_tracker import TensorBoardTracker

    return _logging(info, gradients, TensorBoardTracker(info, examples, timeout), examples_every)


def mlflow_logging(
    info: RunInfo,
    *,
    gradients: Positive | None,
    uri: str | None,
    experiment: str,
    timeout: PositiveFloat,
    examples: NonNegative,
    examples_every: Positive,
) -> Logging:
    """What `csv_logging` writes, and the same in an MLflow run; see `wandb_logging`.

    Args:
        info, gradients, timeout, examples, examples_every: see `wandb_logging`.
        uri, experiment: see `exfuse.tracking.mlflow_tracker.MlflowTracker`.

    Raises:
        ConfigError: if MLflow is not installed.
    """
    with needing("mlflow", "logger=mlflow"):
        from exfuse.tracking.mlflow_tracker import MlflowTracker

    return _logging(info, gradients, MlflowTracker(info, uri, experiment, examples, timeout), examples_every)


def lightning_logging(
    info: RunInfo, *, gradients: Positive | None, logger: Callable[..., Logger], timeout: PositiveFloat
) -> Logging:
    """What `csv_logging` writes, and the same by any logger of Lightning.

    Args:
        info, gradients, timeout: see `wandb_logging`.
        logger: makes it. Of ``save_dir``, ``name`` and ``version`` those that it takes and no config sets are the run's folder,
            name and key.
    """
    from exfuse.tracking.lightning_tracker import LightningTracker

    ours = {"save_dir": str(info.folder), "name": info.name, "version": info.key}
    code = logger.func if isinstance(logger, partial) else logger
    known = inspect.signature(code).parameters
    given = {**(logger.keywords if isinstance(logger, partial) else {})}
    usual = {name: value for name, value in ours.items() if name in known and given.get(name) is None}
    return _logging(info, gradients, LightningTracker(info, partial(logger, **usual), timeout), 1)


def several_logging(
    info: RunInfo, *, gradients: Positive | None, names: list[str], parts: dict[str, Callable[..., Logging]]
) -> Logging:
    """Several at once.

    Args:
        info, gradients: see `csv_logging`.
        names: of those of ``parts`` that are told.
        parts: choices of ``conf/logger`` by name.

    Raises:
        ConfigError: if there is no such part.
    """
    if not names:
        raise ConfigError(f"logger.names=[]: nobody would be told. Name some of {', '.join(parts)}.")
    if wrong := [name for name in names if name not in parts]:
        raise ConfigError(f"logger.names={wrong[0]}: there is no such part. Parts: {', '.join(parts)}.")
    found = [parts[name](info) for name in dict.fromkeys(names)]
    trackers = [logger for one in found for logger in one.loggers if isinstance(logger, TrackerLogger)]
    pictures = [callback for one in found for callback in one.callbacks if isinstance(callback, ExamplePictures)]
    local = csv_logging(info, gradients=gradients)
    once = [ExamplePictures(max(one.number for one in pictures), min(one.every for one in pictures))] if pictures else []
    return Logging([*local.loggers, *trackers], [*local.callbacks, *once])


def _logging(info: RunInfo, gradients: int | None, tracker: Tracker, every: int) -> Logging:
    local = csv_logging(info, gradients=gradients)
    shows = info.stage == "train" and tracker.examples > 0
    pictures: list[Callback] = [ExamplePictures(tracker.examples, every)] if shows else []
    return Logging([*local.loggers, TrackerLogger(tracker, info)], [*local.callbacks, *pictures])
