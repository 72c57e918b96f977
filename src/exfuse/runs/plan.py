"""What a run will be, known without torch: its key, and the data and weights that the key stands for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from exfuse.composition.precision import resolve_precision
from exfuse.composition.reading import plain, read_labelled_split, read_split
from exfuse.data.labelled import LabelledSplit
from exfuse.data.split import Split, check_disjoint
from exfuse.files import sha256
from exfuse.models.sources import PUBLIC
from exfuse.runs.backbone_key import find_folder
from exfuse.runs.start import start_folder
from exfuse.store.folder import RunFolder
from exfuse.store.key import run_key

PRETRAINED = "pretrained"


class RunPlan(NamedTuple):
    """A run before it starts.

    Attributes:
        folder: where it lies or will lie; knows the key.
        splits: ``train`` and ``val``.
        manifests: of both and, where ``backbone.init`` itself does not say what they are, of the weights to start from: under
            ``backbone``, or under ``init_from`` the key of the run whose model that is.
    """

    folder: RunFolder
    splits: dict[str, Split]
    manifests: dict[str, str]


def plan_run(
    config: DictConfig,
    read: Callable[[DictConfig, str], Split] = read_split,
    read_labelled: Callable[[DictConfig, str], LabelledSplit] = read_labelled_split,
) -> RunPlan:
    """Find the folder of the run that ``config`` describes.

    Args:
        config: of a segmentation run, as composed; ``trainer.precision: auto`` is resolved in place.
        read, read_labelled: read a split of the data and of the pretraining's.

    Raises:
        DataError: if the data cannot be used.
        ConfigError: if ``init_from`` names no run; whether that run is there is asked when training starts.
    """
    resolve_precision(config)
    splits = _read_splits(config, read)
    manifests = {name: split.manifest() for name, split in splits.items()}
    init, start = config.backbone.init, start_folder(config)
    if start is not None:
        manifests["init_from"] = start.key
    elif init == PRETRAINED:
        manifests["backbone"] = find_folder(config, read_labelled)[0].key
    elif init not in PUBLIC:
        manifests["backbone"] = sha256(Path(init))
    return RunPlan(RunFolder(Path(config.paths.runs), run_key(plain(config), manifests)), splits, manifests)


def _read_splits(config: DictConfig, read: Callable[[DictConfig, str], Split]) -> dict[str, Split]:
    splits = {name: read(config, name) for name in ("train", "val")}
    check_disjoint(splits["train"], splits["val"])
    if config.debug.images:
        splits = {name: replace(split, items=split.items[: config.debug.images]) for name, split in splits.items()}
    if config.debug.val_is_train:
        splits["val"] = splits["train"]
    return splits
