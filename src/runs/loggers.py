"""Where training curves go. Local records stay the truth; a logger is a mirror."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger


def csv_logger(folder: Path, **_: Any) -> Logger:
    """metrics.csv under ``folder``/logs, one version per start of the run."""
    return CSVLogger(folder, name="logs")


def wandb_logger(
    folder: Path, key: str, label: str, tags: list[str], config: dict[str, Any], *, project: str, mode: str, group: str | None
) -> Logger:
    """A W&B run whose id is the run's key, so that a resumed run continues its own.

    Args:
        folder: local files go to ``folder``/wandb.
        key: of the run.
        label: a readable name.
        tags: the technique options that differ from the baseline.
        config: the run's config, shown flat by W&B.
        project, mode, group: W&B's own; mode is ``offline`` or ``online``.
    """
    return WandbLogger(
        save_dir=folder, project=project, id=key, name=label, tags=tags, config=config, mode=mode, group=group, resume="allow"
    )


def finish_logging(loggers: Sequence[Logger], exit_code: int) -> None:
    """End a W&B run with its exit state, so that the next run of this process does not go on in it."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb  # slow to load, and off by default

        wandb.finish(exit_code=exit_code)
