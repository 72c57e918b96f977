"""``exfuse train``: one run in this process; of a sweep, each in a process of its own."""

from omegaconf import DictConfig

from exfuse.cli import running


def main(config: DictConfig) -> None:
    """Train what ``config`` describes, or bring one job of a sweep to its end."""
    if running.is_multirun():
        from exfuse.sweeps.supervisor import plan_training, supervise

        supervise("train", config, running.choices(), plan_training)
    else:
        from exfuse.runs.training import train

        train(config, running.choices())
