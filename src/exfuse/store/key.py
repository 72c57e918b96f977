"""A run's key: a hash of everything that can change its numbers and of nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# What cannot change a number: where things lie, who watches, how the work is spread over processes and devices.
# Everything else counts, so that a key that someone adds tomorrow is never left out by accident.
IRRELEVANT = {
    "name": None,
    "paths": None,
    "logger": None,
    "overwrite": None,
    "init_from": None,  # the key of the run that it names stands for it
    "study": None,  # a run may belong to several
    "sweep": None,
    "pretraining": None,  # the backbone's key or its file's hash stands for it
    "backbone": {"missing"},
    "decoder": {"checkpoint_activations"},
    "runtime": {"workers", "prefetch", "threads", "checkpoint_every", "cache", "cache_share"},
    "recipe": {"val_every"},
    # the manifests stand for these; `classes` may be the path of a list
    "data": {"root", "sbd_root", "coco_root", "download", "counts", "name", "classes", "train", "val"},
    "trainer": {
        "_target_",
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "sync_batchnorm",
        "enable_progress_bar",
        "enable_model_summary",
        "log_every_n_steps",
        "check_val_every_n_epoch",
        "use_distributed_sampler",
        "default_root_dir",
    },
}


def run_key(config: Mapping[str, Any], manifests: Mapping[str, str]) -> str:
    """Hash a resolved config and the manifests of its data to 16 hexadecimal digits.

    Args:
        config: plain containers; ``paths``, ``logger``, ``data.root`` and their like are left out.
        manifests: of each split, see `exfuse.data.split.Split.manifest`; under ``backbone`` the key of a pretrained backbone or
            the hash of a weight file, which then stands for its path; under ``init_from`` the key of the run whose whole model
            this one starts from, beside which no other weights count.
    """
    relevant: dict[str, Any] = {}
    for group, value in config.items():
        if group not in IRRELEVANT:
            relevant[group] = value
        elif (without := IRRELEVANT[group]) is not None and value is not None:
            relevant[group] = {key: item for key, item in value.items() if key not in without}
    if "backbone" in manifests or "init_from" in manifests:
        relevant["backbone"] = {key: item for key, item in relevant["backbone"].items() if key != "init"}
    relevant["batch_norm"] = _batch_norm_share(config["trainer"])
    text = json.dumps({"config": relevant, "manifests": dict(manifests)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _batch_norm_share(trainer: Mapping[str, Any]) -> str:
    """Over how many processes a batch is divided before batch norm sees it: the one way in which processes change numbers."""
    if trainer["sync_batchnorm"]:
        return "1"
    devices = trainer["devices"]
    per_node = len(devices) if isinstance(devices, (list, tuple)) else devices
    return str(per_node if trainer["num_nodes"] == 1 else f"{trainer['num_nodes']}x{per_node}")
