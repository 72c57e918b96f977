"""Fetch and check data sets:  python -m src.prepare voc [paths.data=DIR]

The first word says which; the rest are overrides of conf/prepare.yaml and conf/source (--help lists them). The same command
goes on with an interrupted download and says of a whole copy that it is whole.
"""

import importlib
import sys
from typing import NamedTuple

import hydra
from omegaconf import DictConfig

from exfuse.cli import running as cli
from exfuse.files import CONFIG_DIR


class _Word(NamedTuple):
    source: str
    function: str
    makes: str


_WORDS = {
    "voc": _Word("voc", "prepare_voc", "PASCAL VOC 2012, train and val (2 GB)"),
    "sbd": _Word("sbd", "prepare_sbd", "SBD, whose annotations extend VOC's train (1.4 GB)"),
    "coco": _Word("coco", "prepare_coco", "COCO 2017, train and val (20 GB), and coco-masks"),
    "coco-masks": _Word("coco", "prepare_coco_masks", "the masks of VOC's classes from COCO's annotations"),
    "imagenet-check": _Word("imagenet", "check_imagenet_folder", "whether your ImageNet is complete; fetches nothing"),
}


def main() -> None:
    """Read the first word and hand the rest to Hydra."""
    if len(sys.argv) < 2 or sys.argv[1] not in _WORDS:
        _explain(asked=" ".join(sys.argv[1:2]))
    word = _WORDS[sys.argv.pop(1)]
    sys.argv.insert(1, f"source={word.source}")

    @hydra.main(config_path=str(CONFIG_DIR), config_name="prepare", version_base="1.3")
    @cli.task
    def prepare(config: DictConfig) -> None:
        getattr(importlib.import_module("exfuse.data_setup.preparing"), word.function)(config)

    cli.run(prepare, "prepare")


def _explain(asked: str) -> None:
    print(__doc__)
    for name, word in _WORDS.items():
        print(f"  python -m src.prepare {name:<15} {word.makes}")
    if asked not in ("", "--help", "-h"):
        sys.exit(f"\nError: there is no data set {asked!r}: expected {', '.join(_WORDS)}.")
    sys.exit(0 if asked else 2)


if __name__ == "__main__":
    main()
