"""What a run or a backbone will be, known without torch: its key, and the data and weights that the key stands for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from exfuse.composition.precision import possible_precisions
from exfuse.composition.reading import read_labelled_split, read_split
from exfuse.data.census import check_labels, count_classes
from exfuse.data.labelled import LabelledSplit
from exfuse.data.split import Split, check_disjoint
from exfuse.data.subsets import divide
from exfuse.errors import ConfigError, DataError, UserError
from exfuse.files import sha256
from exfuse.memory import check_memory
from exfuse.models.sources import PUBLIC, weights_file
from exfuse.store.description import Described, HeldOut, Option, RunDescription
from exfuse.store.find import find_run
from exfuse.store.folder import RunFolder, straight
from exfuse.store.key import backbone_key, devices_of, run_key
from exfuse.store.record import KEY

PRETRAINED = "pretrained"
ReadSplits = Callable[[Option, HeldOut], dict[str, Split]]
ReadLabelled = Callable[[Described, str], LabelledSplit]


class RunPlan(NamedTuple):
    """A run before it starts.

    Attributes:
        run: what it is, its precision resolved.
        folder: where it lies or will lie; knows the key.
        splits: ``train``, ``val`` and, where a rule stops the training by its score, ``stop``, by which that looks.
        manifests: of them and, where ``backbone.init`` itself does not say what they are, of the weights to start from: under
            ``backbone``, or under ``init_from`` the key of the run whose model that is.
    """

    run: RunDescription
    folder: RunFolder
    splits: dict[str, Split]
    manifests: dict[str, str]


def read_splits(data: Option, held_out: HeldOut) -> dict[str, Split]:
    """Train and val of a data set, which share no image.

    Raises:
        DataError: if they cannot be used, or share one.
    """
    splits = {name: read_split(data, name, held_out) for name in ("train", "val")}
    check_disjoint(splits["train"], splits["val"])
    return splits


def plan_run(run: RunDescription, read: ReadSplits = read_splits, read_labelled: ReadLabelled = read_labelled_split) -> RunPlan:
    """Find the folder of a run.

    With ``trainer.precision: auto`` that is also the folder of a run that was finished in the format that is best elsewhere: a
    laptop finds what a GPU made.

    Args:
        run: what it is.
        read, read_labelled: read the splits of the data and one of the pretraining's.

    Raises:
        DataError: if the data cannot be used.
        ConfigError: if ``init_from`` names no run; whether that run is there is asked when training starts.
    """
    check_batch(run, run.recipe.batch_size, run.recipe.augmentation.crop, run.backbone.output_stride)
    init, start = run.backbone.init, start_folder(run)
    if start is None:
        check_weights(run.pretraining.start if init == PRETRAINED else init, init == PRETRAINED)
    splits = divided(run, read)
    manifests = {name: split.manifest() for name, split in splits.items()}
    if start is not None:
        manifests["init_from"] = start.key
        if not KEY.fullmatch(Path(str(run.init_from)).name):  # a name or a link, which may be another run's one day
            here = start.root.resolve() == Path(run.paths.runs).resolve()
            run = msgspec.structs.replace(run, init_from=start.key if here else str(start.path))
    elif init == PRETRAINED:
        manifests["backbone"] = find_backbone(run, read_labelled)[0].key
    elif init not in PUBLIC:
        manifests["backbone"] = sha256(Path(init))
    plans = [
        RunPlan(one, RunFolder(Path(one.paths.runs), run_key(one, manifests)), splits, manifests)
        for one in possible_precisions(run)
    ]
    return next((plan for plan in plans if len(plans) > 1 and not run.overwrite and plan.folder.finished()), plans[0])


def check_batch(run: Described, batch_size: int, side: int, stride: int) -> None:
    """Refuse batches of which nothing can be learnt, or which cannot fit, before anything is loaded.

    Args:
        run: whose trainer shares a batch out.
        batch_size: images of an optimiser step.
        side: of the square that the network sees of each, in pixels.
        stride: pixels of it to a pixel of the deepest map.

    Raises:
        ConfigError: naming the settings.
    """
    share = images_at_once(run, batch_size)
    keys = (
        ("recipe.augmentation.crop", "recipe.batch_size")
        if isinstance(run, RunDescription)
        else tuple(f"pretraining.recipe.{key}" for key in ("augmentation.size", "batch_size"))
    )
    what = f"{keys[0]}={side}: a batch of {share} images of so many pixels a side"
    check_memory(13 * share * side**2, what, f"Choose a smaller one, or a smaller {keys[1]}.")
    if isinstance(run, RunDescription):
        longest, scale = run.recipe.long_side or side, max(1.0, *run.recipe.augmentation.scale)
        what = f"recipe.long_side={longest}, recipe.augmentation.scale up to {scale:g}: an image of so many pixels a side"
        check_memory(3 * (longest * scale) ** 2, what, "Choose smaller ones.")
    if not isinstance(run, RunDescription) and mixes_pairs(run) and share % 2:
        raise ConfigError(
            f"pretraining.recipe.mixing: images are mixed in pairs, and a device takes {share} at once. Choose another "
            f"{keys[1]}, or parts of it, that make it even."
        )
    if share == 1 and side <= stride and not run.trainer.sync_batchnorm:
        raise ConfigError(
            f"{keys[0]}={side}: the deepest map of one image a process is one pixel, of which batch norm can take no "
            f"statistics. Choose more than {stride}, or a {keys[1]} of at least two images a process."
        )


def mixes_pairs(run: Described) -> bool:
    """Whether a pretraining mixes two images into one, for which each device's share must be even."""
    mixing = run.pretraining.recipe.mixing
    return mixing.mixup > 0 or mixing.cutmix > 0


def images_at_once(run: Described, batch_size: int) -> int:
    """How many images of an optimiser step's batch a device takes at once."""
    trainer = run.trainer
    return max(1, batch_size // max(1, trainer.num_nodes * devices_of(trainer) * trainer.accumulate_grad_batches))


def check_weights(init: str, of_pretraining: bool) -> None:
    """Refuse weights that are not there before any data are read, which may have to be drawn first.

    Args:
        init: ``backbone.init`` or, ``of_pretraining``, ``pretraining.start``.

    Raises:
        ConfigError: naming the key.
    """
    if init not in PUBLIC:
        weights_file(init, "pretraining.start" if of_pretraining else "backbone.init")


def find_backbone(described: Described, read: ReadLabelled = read_labelled_split) -> tuple[RunFolder, dict[str, str]]:
    """Where the pretrained backbone that a run asks for lies or will lie, and the manifests of what it is made from.

    Args:
        described: its normalisation as it was asked for.
        read: reads a split of the pretraining's data.
    """
    start = described.pretraining.start
    check_weights(start, of_pretraining=True)
    manifests = {split: read(described, split).manifest() for split in ("train", "val")}
    if start not in PUBLIC:
        manifests["start"] = sha256(Path(start))
    return RunFolder(Path(described.paths.backbones), backbone_key(described, manifests)), manifests


def start_folder(run: RunDescription) -> RunFolder | None:
    """The folder of the run that ``init_from`` names, which need not be there yet; None for a null.

    Raises:
        ConfigError: if ``init_from`` is neither a run's folder nor the key or name of one.
    """
    if run.init_from is None:
        return None
    path = straight(Path(run.init_from))
    if not KEY.fullmatch(path.name):
        try:
            path = find_run(run.init_from, Path(run.paths.runs))
        except UserError as error:
            raise ConfigError(f"init_from={run.init_from}: expected a run's folder, key or name. {error}") from error
        if not KEY.fullmatch(path.name):
            raise ConfigError(f"init_from={run.init_from}: expected a run's folder, .../KEY.")
    return RunFolder(path.parent if len(path.parts) > 1 else Path(run.paths.runs), path.name)


def divided(run: RunDescription, read: ReadSplits) -> dict[str, Split]:
    """What a run learns from and what it is scored on, without the images that it leaves out.

    Args:
        run: says which.
        read: gives the splits of its data; of those that it leaves out there are none.

    Raises:
        DataError: if too little is left.
    """
    splits = dict(read(run.data, run.held_out))
    if run.stop.patience:  # what learns is divided once more: val decides nothing
        parts = divide(splits["train"], run.stop.share, run.stop.seed)
        splits |= {"train": parts["train"], "stop": parts["val"]}
        check_labels(splits["train"])
        check_labels(splits["stop"])
    if run.debug.images:
        splits = {name: replace(split, items=split.items[: run.debug.images]) for name, split in splits.items()}
        if void := [split.name for split in splits.values() if not count_classes(split).labelled]:
            raise DataError(f"debug.images={run.debug.images}: the first images of {void[0]} label no pixel. Take more.")
    if run.debug.val_is_train:
        splits["val"] = replace(splits["train"], seen=True)
    return splits
