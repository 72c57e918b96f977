"""Train one variant:  python -m src.train +ablation=seb_ecre data=voc recipe=voc backbone=resnet101

The run's folder is named by its key. The same command again goes on where an interrupted run stopped, and shows the
scores of a finished one. A study or a multirun trains each run in a process of its own and ends with a table.
"""

import hydra
from omegaconf import DictConfig

from exfuse.cli import running as cli
from exfuse.files import CONFIG_DIR


@hydra.main(config_path=str(CONFIG_DIR), config_name="train", version_base="1.3")
@cli.task
def main(config: DictConfig) -> None:
    if cli.is_multirun():
        from exfuse.sweeps.supervisor import plan_training, supervise

        supervise("src.train", config, plan_training)
    else:
        from exfuse.runs.training import train  # torch and Lightning load only once the config is known to compose

        train(config, cli.choices())


def finish(error: BaseException | None) -> int:
    """End a sweep with its summary and table; see `exfuse.sweeps.session.finish_sweep`."""
    from exfuse.sweeps.session import finish_sweep

    return finish_sweep(error)


if __name__ == "__main__":
    cli.run(main, "train", finish)
