"""Where training curves go. Local records stay the truth; a logger is a mirror."""

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
