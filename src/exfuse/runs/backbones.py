"""Which weights an encoder starts from: public ones, a file, or a backbone of the store, and the command that makes that."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from exfuse.composition.reading import bands_of, split_of
from exfuse.config import search_path
from exfuse.config.backbones import own_backbone
from exfuse.config.overrides import describe_backbone
from exfuse.config.words import as_typed
from exfuse.errors import CheckpointError, ConfigError
from exfuse.files import sha256
from exfuse.models.backbone import check_name
from exfuse.models.sources import PUBLIC
from exfuse.models.weights import weights_normalisation
from exfuse.runs.asked import warn_of_code
from exfuse.runs.child import run_child
from exfuse.runs.plan import PRETRAINED, find_backbone, images_at_once, mixes_pairs
from exfuse.store.checked import at, leaves
from exfuse.store.consistency import processes_of
from exfuse.store.description import D, Described, RunDescription, is_supervised, to_plain
from exfuse.store.folder import WEIGHTS, RunFolder
from exfuse.store.record import Record
from exfuse.terminal import Console

_GROUPS = (
    *("backbone", "pretraining", "pretraining/data", "pretraining/recipe", "pretraining/branches"),
    *("technique/ss", "technique/lr", "data", "trainer", "logger"),
)
_PARTS = "trainer.accumulate_grad_batches"
# Everything in these that differs from what the choices alone compose to is repeated on the command line.
_FIRST: tuple[str, ...] = ("seed", "paths.")  # what others refer to
_SECTIONS: tuple[str, ...] = (
    *("backbone.", "pretraining.", "data.", "technique.lr.", "runtime.", "logger.", "debug.images", "held_out."),
    *("trainer.accelerator", "trainer.devices", "trainer.precision", "trainer.enable_progress_bar", _PARTS),
)
_NOT_OURS = ("backbone.init", "backbone.missing", "backbone.output_stride", "paths.runs")
_READERS = re.compile(r"(pretraining\.)?data\.(train|val)\.")  # they get what stands beside them


class ChosenWeights(NamedTuple):
    """What an encoder starts from.

    Attributes:
        init: for `exfuse.models.weights.load_backbone_weights`.
        manifest: stands for the weights in the run's key; None where ``init`` itself does.
        description: for people.
        made_with: of a pretrained one what its key does not say and its weights depend on.
    """

    init: str
    manifest: str | None
    description: str
    made_with: Mapping[str, Any] = {}


def choose_weights(run: RunDescription, console: Console) -> ChosenWeights:
    """Find what ``backbone.init`` asks for; a missing pretrained backbone is made or refused as ``backbone.missing`` says.

    Args:
        run: its normalisation as it was asked for.
        console: says that a backbone is being made.

    Raises:
        ConfigError: if the backbone is missing; the message holds the command that makes it.
        CheckpointError: if its file is not the one that was written.
    """
    init = run.backbone.init
    if init == PRETRAINED:
        return _pretrained(run, console)
    if init in PUBLIC:
        without = ", which know nothing of SS" if is_supervised(run) else ""
        return ChosenWeights(init, None, f"{init} weights{without}")
    return ChosenWeights(init, sha256(Path(init)), f"weights of {init}")


def resolve_normalisation(described: D) -> D:
    """The description with a normalisation of null replaced by what belongs to the weights; keys are taken before."""
    backbone = described.backbone
    if backbone.normalisation is not None:
        return described
    init = described.pretraining.start if backbone.init == PRETRAINED else backbone.init
    channels = bands_of(described.data).channels if isinstance(described, RunDescription) else 3
    scaling = weights_normalisation(backbone.name, init, channels)
    return replace(described, backbone=replace(backbone, normalisation=scaling))


def backbone_label(described: Described) -> str:
    """``plain``, ``ss``, ``lr`` or ``ss+lr``: which techniques act while this backbone is pretrained."""
    used = {"ss": is_supervised(described), "lr": "lr" in described.technique}
    return "+".join(name for name, acts in used.items() if acts) or "plain"


def pretrain_overrides(run: RunDescription) -> list[str]:
    """What to append to ``exfuse pretrain`` for the backbone that a segmentation run asks for.

    Args:
        run: its normalisation as it was asked for.
    """
    usual, overrides = describe_backbone([]).choices, list[str]()
    for group in _GROUPS:
        if (name := run.choices.get(group)) and usual.get(group) != name:
            overrides.append(f"{group}={name}")
            if group == "backbone" and search_path.read_whole(group, name).get("name") == "???":  # composes with a name alone
                overrides.append(f"backbone.name={as_typed(run.backbone.name)}")
            usual = describe_backbone(overrides).choices  # a backbone may choose a pretraining, which chooses its parts
    ours = dict(leaves(to_plain(run)))
    undivided = replace(run, trainer=replace(run.trainer, accumulate_grad_batches=1))
    share, parts = images_at_once(undivided, run.pretraining.recipe.batch_size), run.trainer.accumulate_grad_batches
    if share % parts or (mixes_pairs(run) and share // parts % 2):
        del ours[_PARTS]  # its batches cannot be divided so, and are taken whole
    for sections in (_FIRST, _SECTIONS):
        base = to_plain(describe_backbone(overrides))
        theirs = dict(leaves(base))
        different = [key for key, value in ours.items() if key not in theirs or theirs[key] != value]
        mine = [key for key in different if key.startswith(sections) and not key.startswith(_NOT_OURS)]
        settable = dict.fromkeys(_in(theirs, key) for key in mine if not _READERS.match(key))
        overrides += [_as_override(key, at(to_plain(run), key)) for key in settable]
    return overrides


def as_command(overrides: Sequence[str]) -> str:
    """The command as a user types it."""
    return shlex.join(["exfuse", "pretrain", *search_path.arguments(), *overrides])


def run_pretraining(overrides: Sequence[str]) -> None:
    """Pretrain in a process of its own, whose output goes to this one's terminal.

    Raises:
        ConfigError: if it fails, with its reason.
        KeyboardInterrupt: if it was interrupted, or this process.
    """
    ended = run_child("pretrain", overrides, log=None, relayed=False)
    if ended.interrupted or ended.returncode == 130:
        raise KeyboardInterrupt
    if ended.returncode:
        why = ended.complaint or f"its process ended with status {ended.returncode}"
        raise ConfigError(f"The backbone could not be made ({as_command(overrides)}): {why} Without one: backbone.init=random.")


def _pretrained(run: RunDescription, console: Console) -> ChosenWeights:
    folder, _ = find_backbone(run)
    record = _done(folder)
    what = f"{run.encoder} ({backbone_label(run)})"
    if record is None and run.backbone.missing == "make":
        if not own_backbone(run.choices.get("backbone"), run.backbone.name):
            check_name(run.backbone.name)
        overrides = pretrain_overrides(run)
        console.print(
            f"No pretrained backbone {what} yet, key {folder.key}: making it.\n  {as_command(overrides)}", soft_wrap=True
        )
        run_pretraining(overrides)
        record = _done(folder)
    if record is None:
        raise ConfigError(
            f"No pretrained backbone {what} with key {folder.key} in {folder.root}. Make it:\n"
            f"  {as_command(pretrain_overrides(run))}\n"
            "or choose backbone.init=timm (public weights), backbone.init=FILE or backbone.init=random."
        )
    path = folder.path / WEIGHTS
    if sha256(path) != record.backbone.sha256:
        raise CheckpointError(
            f"{path} is not the file that its record describes: it was cut short, altered or removed. Make it anew:\n"
            f"  {as_command([*pretrain_overrides(run), 'overwrite=true'])}"
        )
    warn_of_code(record.environment.code, f"{record.title}, seed {record.seed},")
    held_out = split_of(run, "val")
    if held_out.manifest() not in record.backbone.excludes:
        console.print(
            f"Nobody has checked that the images of {held_out.name} took no part in this pretraining. With its data "
            f"at hand, this does:\n  {as_command(pretrain_overrides(run))}",
            soft_wrap=True,
        )
    accuracy = 100 * record.backbone.accuracy["main"]
    description = f"pretrained on {record.data}, {record.label}, accuracy {accuracy:.1f} %, {folder.path}"
    made_with: dict[str, Any] = {"precision": record.setting("trainer.precision")}
    if processes := 1 if record.setting("trainer.sync_batchnorm") else processes_of(record):
        parts = int(record.setting("trainer.accumulate_grad_batches") or 1) * processes
        made_with["images_at_once"] = run.pretraining.recipe.batch_size // parts  # which batch norm sees
    return ChosenWeights(str(path), folder.key, description, made_with)


def _done(folder: RunFolder) -> Record | None:
    """The record of a backbone that says done; whether its weights are still there is checked with them."""
    record = folder.record()
    return record if record and record.done else None


def _in(base: Mapping[str, Any], key: str) -> str:
    """The key, or the one above it that stands in ``base``: an empty mapping or null that got keys."""
    above = key
    while above not in base and "." in above:
        above = above.rpartition(".")[0]
    return above if above in base else key


def _as_override(key: str, value: Any) -> str:
    place, _, last = key.rpartition(".")
    if last == "option":  # of an optimiser or schedule: a config group that fills a place
        return f"{place.rpartition('.')[2]}@{place}={value}"
    return f"{key}={as_typed(value)}"
