"""``exfuse train``: one run in this process; of a sweep, each in a process of its own."""

from omegaconf import DictConfig
from rich.console import Console

from exfuse.cli import running
from exfuse.config.overrides import running_choices
from exfuse.config.read import describe


def main(config: DictConfig) -> None:
    """Train what ``config`` describes, or bring one job of a sweep to its end."""
    run = describe(config, running_choices())
    if running.is_multirun():
        from exfuse.sweeps.supervisor import supervise

        supervise(run)
        return
    from exfuse.runs.finished import show_finished

    if not show_finished(run, Console()):
        from exfuse.runs.training import train

        train(run)
