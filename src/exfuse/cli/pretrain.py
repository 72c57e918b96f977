"""Pretrain the backbone of a variant:  python -m src.pretrain +ablation=ss_lr backbone=resnext101_32x4d trainer=ddp

Only SS and LR act here. Its folder in the store is named by its key; src.train finds it there by itself. The same command
again goes on where an interrupted one stopped.
"""

import hydra
from omegaconf import DictConfig

from exfuse.cli import running as cli
from exfuse.files import CONFIG_DIR


@hydra.main(config_path=str(CONFIG_DIR), config_name="pretrain", version_base="1.3")
@cli.task
def main(config: DictConfig) -> None:
    if cli.is_multirun():
        from exfuse.sweeps.supervisor import plan_pretraining, supervise

        supervise("src.pretrain", config, plan_pretraining)
    else:
        from exfuse.runs.pretraining import pretrain  # torch and Lightning load only once the config is known to compose

        pretrain(config, cli.choices())


def finish(error: BaseException | None) -> int:
    """End a sweep with its summary; see `exfuse.sweeps.session.finish_sweep`."""
    from exfuse.sweeps.session import finish_sweep

    return finish_sweep(error)


if __name__ == "__main__":
    cli.run(main, "pretrain", finish)
