"""``exfuse train`` and ``exfuse pretrain``: one run in this process; of a sweep, each in a process of its own."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from exfuse.cli import running
from exfuse.config.overrides import running_choices
from exfuse.config.read import describe, describe_pretraining
from exfuse.errors import ConfigError
from exfuse.imports import without_unused
from exfuse.runs.micro_batch import settle
from exfuse.terminal import Console


def train(config: DictConfig) -> None:
    """Train what ``config`` describes, or bring one job of a sweep to its end."""
    run = describe(config, running_choices())
    if running.is_multirun():
        from exfuse.sweeps.supervisor import supervise

        supervise(settle(run))
        return
    from exfuse.runs.finished import show_finished

    run = settle(run)
    if not show_finished(run, Console()):
        with without_unused():
            from exfuse.runs.training import train as train_one

        train_one(run)


def pretrain(config: DictConfig) -> None:
    """Pretrain what ``config`` describes, or bring one job of a sweep to its end."""
    wanted = describe_pretraining(config, running_choices())
    if typed := [word for word in HydraConfig.get().overrides.task if word.startswith("backbone.init=")]:
        raise ConfigError(f"{typed[0]}: a pretraining makes a backbone. What it starts from is pretraining.start.")
    if running.is_multirun():
        from exfuse.sweeps.supervisor import supervise

        supervise(settle(wanted))
    else:
        from exfuse.runs.plan import check_weights

        check_weights(wanted.pretraining.start, of_pretraining=True)
        with without_unused():
            from exfuse.runs.pretraining import pretrain as pretrain_one

        pretrain_one(settle(wanted))
