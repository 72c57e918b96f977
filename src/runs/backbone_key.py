"""A pretrained backbone's key: a hash of what shaped it, so that training can ask for it without having its data at hand."""

import hashlib
import json
from typing import Any

from omegaconf import DictConfig

from src.composition.common import plain
from src.composition.pretraining import is_supervised

# Where data lie and who is only watching; manifests stand for the data.
_DATA = {"root", "name", "counts", "manifest", "train", "val"}
_RECIPE = {"val_every", "evaluation"}


def backbone_key(config: DictConfig, manifests: dict[str, str]) -> str:
    """Hash what shaped a backbone to 16 hexadecimal digits.

    That is the architecture, LR, SS's branches where SS supervises, the weights it started from, the recipe, the data and the
    seed. Left out: techniques that act on segmentation alone, the output stride, which dilates the same weights, and number
    format, devices and processes, so that a backbone made on a cluster is found on a laptop; its record names them.

    Args:
        config: with ``backbone`` (its normalisation resolved), ``technique``, ``pretraining`` and ``debug``.
        manifests: of the pretraining's ``train`` and ``val`` data; ``start``: hash of the file that it starts from, if any.
    """
    pretraining = plain(config.pretraining)
    backbone = plain(config.backbone)
    shaped_by: dict[str, Any] = {
        "architecture": {key: backbone[key] for key in ("name", "arguments", "normalisation")},
        "lr": plain(config.technique.lr),
        "branches": pretraining["branches"] if is_supervised(config) else None,
        "start": None if "start" in manifests else pretraining["start"],
        "recipe": {key: value for key, value in pretraining["recipe"].items() if key not in _RECIPE},
        "data": {key: value for key, value in pretraining["data"].items() if key not in _DATA},
        "seed": pretraining["seed"],
        "images": config.debug.images,
        "manifests": manifests,
    }
    return hashlib.sha256(json.dumps(shaped_by, sort_keys=True).encode()).hexdigest()[:16]
