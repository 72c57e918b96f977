"""A pretrained backbone's key: a hash of what shaped it, so that training can ask for it without having its data at hand."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from exfuse.composition.reading import is_supervised, plain, read_labelled_split
from exfuse.data.labelled import LabelledSplit
from exfuse.files import sha256
from exfuse.models.sources import PUBLIC
from exfuse.store.folder import RunFolder

# Where data lie and who is only watching; manifests stand for the data.
_DATA = {"root", "name", "counts", "manifest", "train", "val"}
_RECIPE = {"val_every", "evaluation"}


def find_folder(
    config: DictConfig, read: Callable[[DictConfig, str], LabelledSplit] = read_labelled_split
) -> tuple[RunFolder, dict[str, str]]:
    """Where the backbone that ``config`` asks for lies or will lie, and the manifests of what it is made from.

    Args:
        config: its normalisation as it was composed, not yet resolved.
        read: reads a split.
    """
    manifests = {split: read(config, split).manifest() for split in ("train", "val")}
    start = config.pretraining.start
    if start not in PUBLIC:
        manifests["start"] = sha256(Path(start))
    return RunFolder(Path(config.paths.backbones), backbone_key(config, manifests)), manifests


def backbone_key(config: DictConfig, manifests: dict[str, str]) -> str:
    """Hash what shaped a backbone to 16 hexadecimal digits.

    That is the architecture, LR, SS's branches where SS supervises, the weights it started from, the recipe, the data and the
    seed. Left out: techniques that act on segmentation alone, the output stride, which dilates the same weights, and number
    format, devices and processes, so that a backbone made on a cluster is found on a laptop; its record names them.

    Args:
        config: with ``backbone``, ``technique``, ``pretraining`` and ``debug``; a ``backbone.normalisation`` of null is that of
            the weights it starts from.
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
