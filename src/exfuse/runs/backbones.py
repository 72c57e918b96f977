"""The store of pretrained backbones: which weights a run starts from, found by what shaped them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig
from rich.console import Console

from exfuse.composition.reading import is_supervised, read_split
from exfuse.errors import CheckpointError, ConfigError
from exfuse.files import sha256
from exfuse.models.sources import PUBLIC
from exfuse.models.weights import weights_normalisation
from exfuse.runs.backbone_key import find_folder
from exfuse.runs.plan import PRETRAINED
from exfuse.runs.pretrain_command import as_command, pretrain_overrides, run_pretraining
from exfuse.store.folder import WEIGHTS, RunFolder
from exfuse.store.record import Record


class ChosenWeights(NamedTuple):
    """What an encoder starts from.

    Attributes:
        init: for `exfuse.models.weights.load_backbone_weights`.
        manifest: stands for the weights in the run's key; None where ``init`` itself does.
        description: for people.
    """

    init: str
    manifest: str | None
    description: str


def choose_weights(config: DictConfig, choices: Mapping[str, str], console: Console) -> ChosenWeights:
    """Find what ``backbone.init`` asks for; a missing pretrained backbone is made or refused as ``backbone.missing`` says.

    Args:
        config: of a segmentation run, its normalisation not yet resolved.
        choices: the option that was chosen in each config group.
        console: says that a backbone is being made.

    Raises:
        ConfigError: if the backbone is missing; the message holds the command that makes it.
        CheckpointError: if its file is not the one that was written.
    """
    init = config.backbone.init
    if init == PRETRAINED:
        return _pretrained(config, choices, console)
    if init in PUBLIC:
        without = ", which know nothing of SS" if is_supervised(config) else ""
        return ChosenWeights(init, None, f"{init} weights{without}")
    return ChosenWeights(init, sha256(Path(init)), f"weights of {init}")


def resolve_normalisation(config: DictConfig) -> None:
    """Replace ``backbone.normalisation: null`` by what belongs to the weights; keys are taken before, these stand for it."""
    if config.backbone.normalisation is None:
        init = config.pretraining.start if config.backbone.init == PRETRAINED else config.backbone.init
        normalisation = weights_normalisation(config.backbone.name, init)
        config.backbone.normalisation = {"mean": list(normalisation.mean), "std": list(normalisation.std)}


def backbone_label(config: DictConfig, choices: Mapping[str, str]) -> str:
    """``plain``, ``ss``, ``lr`` or ``ss+lr``: which techniques act while this backbone is pretrained."""
    lr = choices.get("technique/lr", "standard")
    return "+".join(name for name, used in (("ss", is_supervised(config)), ("lr", lr != "standard")) if used) or "plain"


def _pretrained(config: DictConfig, choices: Mapping[str, str], console: Console) -> ChosenWeights:
    overrides = pretrain_overrides(config, choices)
    folder, _ = find_folder(config)
    record = _done(folder)
    what = f"{config.backbone.name} ({backbone_label(config, choices)})"
    if record is None and config.backbone.missing == "make":
        console.print(
            f"No pretrained backbone {what} yet, key {folder.key}: making it.\n  {as_command(overrides)}", soft_wrap=True
        )
        run_pretraining(overrides)
        record = _done(folder)
    if record is None:
        raise ConfigError(
            f"No pretrained backbone {what} with key {folder.key} in {folder.root}. Make it:\n  {as_command(overrides)}\n"
            "or choose backbone.init=timm (public weights), backbone.init=FILE or backbone.init=random."
        )
    path = folder.path / WEIGHTS
    if sha256(path) != record.backbone.sha256:
        raise CheckpointError(
            f"{path} is not the file that its record describes: it was cut short, altered or removed. Make it anew:\n"
            f"  {as_command([*overrides, 'overwrite=true'])}"
        )
    held_out = read_split(config, "val")
    if held_out.manifest() not in record.backbone.excludes:
        console.print(
            f"[yellow]Nobody has checked that the images of {held_out.name} took no part in this pretraining.[/] With its data "
            f"at hand, this does:\n  {as_command(overrides)}",
            soft_wrap=True,
        )
    accuracy = 100 * record.backbone.accuracy["main"]
    description = f"pretrained on {record.data}, {record.label}, accuracy {accuracy:.1f} %, {folder.path}"
    return ChosenWeights(str(path), folder.key, description)


def _done(folder: RunFolder) -> Record | None:
    """The record of a backbone that says done; whether its weights are still there is checked with them."""
    record = folder.record()
    return record if record and record.done else None
