"""``exfuse report``: a study or a run looked at instead of read."""

from pathlib import Path

from omegaconf import DictConfig

from exfuse.config.overrides import running_settings


def page(config: DictConfig) -> None:
    """Make the page of each study."""
    from exfuse.reports.page.command import Page, make

    make(running_settings(config, Page))


def features(config: DictConfig) -> None:
    """Draw and measure low-level maps."""
    from exfuse.reports.features.command import Features, show_features

    show_features(running_settings(config, Features))


def probe(config: DictConfig) -> None:
    """Probe low-level maps."""
    from exfuse.reports.probe.command import Probe, probe_features

    probe_features(running_settings(config, Probe))


def costs(config: DictConfig) -> None:
    """Measure the costs of all rows."""
    from exfuse.reports.costs.command import Costs, measure_costs

    measure_costs(running_settings(config, Costs))


def wandb(config: DictConfig) -> None:
    """Write, and publish if asked, a report at W&B."""
    from exfuse.reports.wandb_report import WandbReport, report_to_wandb

    report_to_wandb(running_settings(config, WandbReport))


def screenshots(config: DictConfig) -> None:
    """Take pictures of a study's page."""
    from exfuse.reports.screenshots import take_screenshots

    folder = Path(config.study.folder)
    for path in take_screenshots(folder, Path(config.output or folder)):
        print(path)
