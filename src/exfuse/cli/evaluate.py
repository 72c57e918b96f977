"""Score a checkpoint on any data config:  python -m src.evaluate checkpoint=outputs/runs/KEY data=voc"""

import hydra
from omegaconf import DictConfig

from exfuse.cli import running as cli
from exfuse.files import CONFIG_DIR


@hydra.main(config_path=str(CONFIG_DIR), config_name="evaluate", version_base="1.3")
@cli.task
def main(config: DictConfig) -> None:
    from exfuse.runs.evaluation import evaluate  # torch loads only once the config is known to compose

    evaluate(config)


if __name__ == "__main__":
    cli.run(main, "evaluate")
