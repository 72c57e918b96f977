"""``exfuse pretrain``: one backbone in this process; of a sweep, each in a process of its own."""

from omegaconf import DictConfig

from exfuse.cli import running
from exfuse.config.overrides import running_choices
from exfuse.config.read import describe_pretraining


def main(config: DictConfig) -> None:
    """Pretrain what ``config`` describes, or bring one job of a sweep to its end."""
    wanted = describe_pretraining(config, running_choices())
    if running.is_multirun():
        from exfuse.sweeps.supervisor import supervise

        supervise(wanted)
    else:
        from exfuse.runs.pretraining import pretrain

        pretrain(wanted)
