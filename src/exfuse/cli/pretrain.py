"""``exfuse pretrain``: one backbone in this process; of a sweep, each in a process of its own."""

from omegaconf import DictConfig

from exfuse.cli import running


def main(config: DictConfig) -> None:
    """Pretrain what ``config`` describes, or bring one job of a sweep to its end."""
    if running.is_multirun():
        from exfuse.sweeps.supervisor import plan_pretraining, supervise

        supervise("pretrain", config, running.choices(), plan_pretraining)
    else:
        from exfuse.runs.pretraining import pretrain

        pretrain(config, running.choices())
