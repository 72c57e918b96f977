"""Where training curves go: always into the run's folder, and to W&B if it is chosen."""

from typing import Literal, NamedTuple

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger

from exfuse.limits import NonNegative, Positive, PositiveFloat
from exfuse.tracking.showing import GradientNorms
from exfuse.tracking.tracker import RunInfo, TrackerLogger


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
    from exfuse.tracking.showing import ExamplePictures
    from exfuse.tracking.wandb_tracker import WandbTracker

    local = csv_logging(info, gradients=gradients)
    tracker = WandbTracker(info, project, entity, group or info.study, mode, timeout, examples)
    pictures: list[Callback] = [ExamplePictures(examples, examples_every)] if info.stage == "train" and examples else []
    return Logging([*local.loggers, TrackerLogger(tracker, info)], [*local.callbacks, *pictures])
