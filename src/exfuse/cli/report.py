"""``exfuse report``: a study or a run looked at instead of read."""

from pathlib import Path

from omegaconf import DictConfig


def page(config: DictConfig) -> None:
    """Make the page of each study."""
    from exfuse.reports.page.command import make

    make(config)


def features(config: DictConfig) -> None:
    """Draw and measure low-level maps."""
    from exfuse.reports.features.command import show_features

    show_features(config)


def probe(config: DictConfig) -> None:
    """Probe low-level maps."""
    from exfuse.reports.probe.command import probe_features

    probe_features(config)


def costs(config: DictConfig) -> None:
    """Measure the costs of all rows."""
    from exfuse.reports.costs.command import measure_costs

    measure_costs(config)


def wandb(config: DictConfig) -> None:
    """Write, and publish if asked, a report at W&B."""
    from exfuse.reports.wandb_report import report_to_wandb

    report_to_wandb(config)


def screenshots(config: DictConfig) -> None:
    """Take pictures of a study's page."""
    from exfuse.reports.screenshots import take_screenshots

    folder = Path(config.study.folder)
    for path in take_screenshots(folder, Path(config.output or folder)):
        print(path)
