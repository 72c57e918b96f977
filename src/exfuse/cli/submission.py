"""VOC's test server:  python -m src.submission make run=outputs/runs/KEY data.root=.../VOC2012

make predicts the test images and writes the server's archive; check archive=FILE says whether one would be accepted. The rest
are overrides of conf/submission.yaml (--help lists them).
"""

import importlib
import sys

import hydra
from omegaconf import DictConfig

from exfuse.cli import running as cli
from exfuse.files import CONFIG_DIR

_WORDS = {"make": "make_submission", "check": "check_submission"}


def main() -> None:
    """Read the first word and hand the rest to Hydra."""
    word = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in _WORDS else None
    if word is None:
        print(__doc__)
        helped = {"-h", "--help"} & {*sys.argv[1:]}
        sys.exit(0 if helped else f"Error: say what to do first: {' or '.join(_WORDS)}.")

    @hydra.main(config_path=str(CONFIG_DIR), config_name="submission", version_base="1.3")
    @cli.task
    def run(config: DictConfig) -> None:
        getattr(importlib.import_module("exfuse.runs.submission"), _WORDS[word])(config)  # torch loads once the config composes

    cli.run(run, "submission")


if __name__ == "__main__":
    main()
