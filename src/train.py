"""Train one variant:  python -m src.train +ablation=seb_ecre data=voc recipe=voc backbone=resnet101

The run's folder is named by its key. The same command again goes on where an interrupted run stopped, and shows the
scores of a finished one.
"""

import hydra
from omegaconf import DictConfig

from src import cli


@hydra.main(config_path="../conf", config_name="train", version_base="1.3")
@cli.task
def main(config: DictConfig) -> None:
    from src.runs.training import train  # torch and Lightning load only once the config is known to compose

    train(config, cli.choices())


if __name__ == "__main__":
    cli.run(main, "train")
