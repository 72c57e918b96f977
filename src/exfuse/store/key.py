"""Keys: a hash of everything that can change the numbers of a run, or of a pretrained backbone, and of nothing else."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from exfuse.devices import visible_gpus
from exfuse.store.description import ASIDE, Described, Option, RunDescription, Trainer, encode_option, is_supervised
from exfuse.store.numbers_version import NUMBERS_VERSION

# Settings of options that change no number; everything else counts, so that a setting that someone adds is never left out.
_ASIDE_SETTINGS = {"decoder": {"checkpoint_activations"}}
# Of Lightning's further arguments those that only watch.
_ASIDE_ARGUMENTS = {"profiler"}
# Losses that are sums over pixels: the same however a batch is shared out. Whatever is added is taken for another.
SUMS = {"cross_entropy", "weighted", "focal"}


def run_key(run: RunDescription, manifests: Mapping[str, str]) -> str:
    """Hash a description and the manifests of its data to 16 hexadecimal digits.

    Every field counts that is not marked `ASIDE`, unless it is one that was added later and left at its default.

    Args:
        run: its precision resolved, its normalisation as it was asked for.
        manifests: of each split, see `exfuse.data.split.Split.manifest`; under ``backbone`` the key of a pretrained backbone or
            the hash of a weight file, which then stands for its path; under ``init_from`` the key of the run whose whole model
            this one starts from, beside which no other weights count.
    """
    relevant = _relevant(run)
    relevant["decoder"] = _without(relevant["decoder"], _ASIDE_SETTINGS["decoder"])
    if more := _without(relevant["trainer"].pop("more", {}), _ASIDE_ARGUMENTS):
        relevant["trainer"]["more"] = more
    if "backbone" in manifests or "init_from" in manifests:
        relevant["backbone"] = _without(relevant["backbone"], {"init"})
    relevant["batch_norm"] = _shares(run)
    return _hash({"run": relevant, "manifests": dict(manifests)})


def backbone_key(described: Described, manifests: Mapping[str, str]) -> str:
    """Hash what shaped a backbone to 16 hexadecimal digits.

    That is the architecture, LR, SS's branches where SS supervises, the weights it started from, the recipe, the data and the
    seed. Left out: techniques that act on segmentation alone, the output stride, which dilates the same weights, and number
    format, devices and processes, so that a backbone made on a cluster is found on a laptop; its record names them.

    Args:
        described: its normalisation as it was asked for; null is that of the weights it starts from.
        manifests: of the pretraining's ``train`` and ``val`` data; ``start``: hash of the file that it starts from, if any.
    """
    pretraining, backbone = described.pretraining, described.backbone
    shaped_by = {
        "architecture": [backbone.name, backbone.arguments, backbone.normalisation],
        "lr": described.technique.get("lr"),
        "branches": pretraining.branches if is_supervised(described) else None,
        "start": None if "start" in manifests else pretraining.start,
        "recipe": _relevant(pretraining.recipe),
        "seed": pretraining.seed,
        "images": described.debug.images,
    }
    return _hash({"backbone": shaped_by, "manifests": dict(manifests)})


@functools.cache
def aside() -> dict[str, set[str] | None]:
    """What does not count, by group of a plain description: the whole group for None, else these of its settings."""
    found: dict[str, set[str] | None] = dict(_ASIDE_SETTINGS)
    for name, hint in get_type_hints(RunDescription, include_extras=True).items():
        if ASIDE in getattr(hint, "__metadata__", ()):
            found[name] = None
        elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            found[name] = {*hint.__struct_fields__} - {*_counting(hint)}
    return found


def _relevant(value: Any) -> Any:
    """A struct as a dict of the fields that count."""
    if not isinstance(value, msgspec.Struct):
        return value
    kept = {name: getattr(value, name) for name in _counting(type(value))}
    usual = {field.name: field.default for field in msgspec.structs.fields(value)}
    return {name: _relevant(item) for name, item in kept.items() if item != usual[name] and item != {}}


@functools.cache
def _counting(kind: type[msgspec.Struct]) -> list[str]:
    hints = get_type_hints(kind, include_extras=True)
    return [name for name in kind.__struct_fields__ if ASIDE not in getattr(hints[name], "__metadata__", ())]


def _without(value: Any, names: set[str]) -> Any:
    content = encode_option(value) if isinstance(value, Option) else value
    return {name: item for name, item in content.items() if name not in names}


def _hash(content: Mapping[str, Any]) -> str:
    plain = msgspec.to_builtins({"numbers_version": NUMBERS_VERSION, **content}, enc_hook=encode_option)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def devices_of(trainer: Trainer) -> int:
    """How many devices of a machine a run takes, as Lightning reads what is typed; at least 1."""
    named = count_devices(trainer.devices)
    return named or (max(1, len(visible_gpus())) if trainer.accelerator in ("auto", "gpu", "cuda") else 1)


def count_devices(devices: object) -> int | None:
    """How many devices ``trainer.devices`` names: a number, a list, or ``0,2``; None for all that there are."""
    if devices in (-1, "-1", "auto"):
        return None
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    return len(devices) if isinstance(devices, list) else int(str(devices))


def _shares(run: RunDescription) -> str:
    """Over how many processes a batch is divided where that changes numbers: before batch norm, or a loss, sees it."""
    trainer = run.trainer
    if trainer.sync_batchnorm and run.loss.name in SUMS:
        return "1"
    here = devices_of(trainer)
    return str(here if trainer.num_nodes == 1 else f"{trainer.num_nodes}x{here}")
