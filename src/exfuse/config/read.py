"""From a composed config to the description of a run, once, at the entry: what is wrong is refused here, in one line each."""

from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec.structs import replace
from omegaconf import DictConfig, OmegaConf

from exfuse.config import search_path
from exfuse.config.backbones import read_backbone
from exfuse.config.conversion import as_plain, converted
from exfuse.config.options import checked, fitting, refusal
from exfuse.config.signatures import signature
from exfuse.config.trainer import read_trainer
from exfuse.config.words import nearest_key, shown
from exfuse.errors import ConfigError, plural
from exfuse.store import variants
from exfuse.store.checked import at
from exfuse.store.description import (
    NO_STOP,
    Option,
    Paths,
    PretrainingDescription,
    RunDescription,
    Trainer,
    decode_option,
)

_CODE = ("_target_", "_partial_")
_LAST = "option"  # how an option's name stands among its settings
PLACES = [f"paths.{name}" for name in Paths.__struct_fields__]
Choices = Mapping[str, str | None]
_T = TypeVar("_T")


def describe(config: DictConfig, choices: Choices) -> RunDescription:
    """The description of the segmentation run that conf/train.yaml was composed to.

    Args:
        config: as composed.
        choices: Hydra's, ``hydra.runtime.choices``: the option that was chosen in each config group.

    Raises:
        ConfigError: naming the key that nothing reads, or whose value is of another kind or out of range.
    """
    run = _described(config, choices, RunDescription)
    _check_average(run.recipe.ema_decay, run.trainer)
    return _with_looks(run)


def describe_pretraining(config: DictConfig, choices: Choices) -> PretrainingDescription:
    """The description of the pretraining that conf/pretrain.yaml was composed to; see `describe`."""
    if OmegaConf.select(config, "sweep.until"):
        raise ConfigError("sweep.until=decided adds seeds to a table's rows: it is for exfuse train.")
    wanted = _described(config, choices, PretrainingDescription)
    _check_average(wanted.pretraining.recipe.ema_decay, wanted.trainer)
    return wanted


def read_arguments(config: DictConfig, target: str, choices: Choices) -> dict[str, Any]:
    """A composed config as the arguments of the function that does a command's work, for a command that describes no run.

    A key is an argument, ``study.folder`` the argument ``study_folder``; a config group is its chosen `Option`. The types are
    those that the function is annotated with, which is not imported for that. It need not take where things lie (``paths``).

    Args:
        config: as composed.
        target: the function's import path.
        choices: see `describe`.

    Raises:
        ConfigError: see `describe`.
    """
    content, written = as_plain(config)
    chosen, arguments, found = _by_place(choices), signature(target).arguments, dict[str, Any]()
    for name, value in content.items():
        if name in chosen and name in arguments:
            found[name] = decode_option(Option, _option(name, *chosen[name], value, written))
            continue
        below = isinstance(value, dict) and name not in arguments
        parts = {f"{name}.{last}": part for last, part in value.items()} if below else {name: value}
        for key, part in parts.items():
            argument = key.replace(".", "_")
            if part == "":
                raise ConfigError(f"{key}=: expected text.")
            if argument in arguments:
                found[argument] = fitting(key, part, arguments[argument].kind, written)
            elif key not in PLACES:
                raise ConfigError(f"{key}: nothing reads this key. {nearest_key(key, arguments, '')}")
    return found


def _described(config: DictConfig, choices: Choices, kind: type[_T]) -> _T:
    content, written = as_plain(config)
    chosen = _by_place(choices)
    slots = content["technique"] if isinstance(content["technique"], dict) else variants.names()
    options = [f"technique.{slot}" for slot in slots]
    options += ["decoder", "data", "logger", "pretraining.data", *(["loss"] if "loss" in content else [])]
    options += [f"{recipe}.{part}" for recipe in ("recipe", "pretraining.recipe") for part in ("optimizer", "schedule")]
    for place in options:
        *way, leaf = place.split(".")
        if (found := chosen.get(place) or chosen.get(f"pretraining.{place}")) is None:  # a pretraining's recipe is its own
            there = variants.names() if way == ["technique"] else [one for one in chosen if "." not in one]
            raise ConfigError(f"{place}: nothing reads this key. {nearest_key(leaf, there, '.'.join(way))}")
        group, name = found
        node = content
        for depth, step in enumerate(way, 1):
            if not isinstance(below := node[step], dict):
                raise ConfigError(f"{'.'.join(way[:depth])}={shown(below)}: expected keys with values.")
            node = below
        is_empty = leaf in node and node[leaf] is None and not search_path.read_whole(group, name)
        if not isinstance(node.get(leaf), dict) and not is_empty:
            said = f"{place}={shown(node[leaf])}" if leaf in node else f"~{place}"
            raise ConfigError(
                f"{said}: expected the settings of {group}={name}. Another option is chosen by "
                f"{group}{'' if place == group.replace('/', '.') else f'@{place}'}=NAME."
            )
        if way[-1:] == ["recipe"]:
            above = ".".join(way)
            brought = search_path.read_whole(*(chosen.get(above) or chosen[f"pretraining.{above}"])).get(leaf, {})
            node[leaf] = _taken(search_path.read_whole(group, name), node[leaf], brought)
        node[leaf] = _option(place, group, name, node[leaf], written)
    _check_sum(content.get("loss") or {})
    usual, techniques = variants.baseline(), content["technique"]
    content["technique"] = {slot: option for slot, option in techniques.items() if option[_LAST] != usual[slot]}
    for slot in techniques.keys() - content["technique"].keys():
        _check_baseline(slot, techniques[slot])
    content["trainer"] = read_trainer(content["trainer"], written, content["recipe"], chosen.get("debug"))
    content["backbone"] = read_backbone(content["backbone"], *chosen["backbone"], written)
    content["choices"] = groups = {group: name for place, (group, name) in chosen.items() if place == group.replace("/", ".")}
    label = variants.label({slot: option[_LAST] for slot, option in content["technique"].items()}, content["decoder"][_LAST])
    if isinstance(content.get("name"), (list, dict, bool)):
        raise ConfigError(refusal("name", content["name"], str, written))
    of_study = at(content, "sweep.row")
    content["name"] = str(content.get("name") or of_study or variant_name(groups, label))
    return converted(content, kind, written)


def _with_looks(run: RunDescription) -> RunDescription:
    """The description with its rule for stopping complete.

    Raises:
        ConfigError: if that makes no sense.
    """
    stop = run.stop
    if stop.every is not None:
        raise ConfigError("stop.every: set recipe.val_every, by which a training is validated and this looks.")
    if stop.epochs is not None and stop.epochs > run.recipe.epochs:
        raise ConfigError(f"stop.epochs={stop.epochs}: expected at most recipe.epochs, {run.recipe.epochs}.")
    if stop.floors is not None and not run.held_out.share:
        raise ConfigError("stop.floors: they are for runs of a search, which are scored on a part of train, never on val.")
    epochs, every = min(stop.epochs or run.recipe.epochs, run.recipe.epochs), run.recipe.val_every
    if stop.patience is not None and epochs // every <= stop.patience:
        raise ConfigError(
            f"stop.patience={stop.patience}: {epochs} epochs validated every {every} are {plural(epochs // every, 'look')}, "
            "and it would never end a training. Choose a smaller one, a smaller recipe.val_every or more epochs."
        )
    if stop.patience is not None or stop.floors is not None:
        return replace(run, stop=replace(stop, every=run.recipe.val_every))
    for name in ("min_delta", "share", "seed"):
        if getattr(stop, name) != getattr(NO_STOP, name):
            raise ConfigError(f"stop.{name}: this is of stop.patience, which is null. Set that, or leave this out.")
    return run


def _check_average(decay: float | None, trainer: Trainer) -> None:
    """Refuse an average of weights in another number format than theirs: it would be rounded wherever it is looked at.

    Raises:
        ConfigError: naming both.
    """
    if decay is not None and trainer.precision in ("bf16-true", "16-true", "64-true"):
        raise ConfigError(
            f"trainer.precision={trainer.precision}: ema_decay={decay} averages in float32, and the average would be rounded. "
            "Choose 32-true, bf16-mixed or 16-mixed."
        )


def _check_sum(loss: Mapping[str, Any]) -> None:
    """Refuse weights of a sum of losses that none of its parts has, or that are all zero.

    Raises:
        ConfigError: naming the key.
    """
    if "weights" in loss and loss.get("parts", ()) is None:
        raise ConfigError("loss.parts=null: a sum of losses needs them. See conf/loss/sum.yaml.")
    if (parts := loss.get("parts")) is None or (weights := loss.get("weights")) is None:
        return
    if unknown := [name for name in weights if name not in parts]:
        raise ConfigError(
            f"loss.weights.{unknown[0]}: nothing reads this key. {nearest_key(unknown[0], parts, 'loss.weights')}"
        )
    if not any(weights.values()):
        raise ConfigError("loss.weights: all are 0, so that nothing would be learnt. Give one of them more.")


def _taken(file: Mapping[str, Any], node: Mapping[str, Any], brought: Mapping[str, Any]) -> Mapping[str, Any]:
    """An option's settings without those that a recipe sets for the option of its own choice and this one does not take."""
    if (target := file.get("_target_")) in (None, brought.get("_target_")):
        return node
    arguments, is_open = signature(target)
    known = (*arguments, *_CODE)
    return {name: value for name, value in node.items() if is_open or name in known or value != brought.get(name)}


def _is_ours(group: str, name: str | None) -> bool:
    return bool(name) and not group.startswith("hydra/")


def _by_place(choices: Choices) -> dict[str, tuple[str, str]]:
    """Config group and chosen option by the place in the config that the group fills."""
    found = {}
    for key, name in choices.items():
        if name and _is_ours(key, name):
            group, _, place = key.partition("@")
            found[place or group.replace("/", ".")] = (group, name)
    return found


def _option(place: str, group: str, name: str, node: Any, written: Any) -> dict[str, Any]:
    """An option's checked settings with its name, its code left out.

    Raises:
        ConfigError: if a setting is none of the option's, or its value is not what its code takes.
    """
    settings = checked(place, node or {}, search_path.read_whole(group, name), (place, group, name), written)
    return {_LAST: name, **settings}


def variant_name(choices: Mapping[str, str], label: str) -> str:
    """What people call a variant: its overlay's name, unless more was chosen beside it; else its label.

    Args:
        choices: the option of each config group.
        label: of the variant as it is.
    """
    overlays = [f"{group}/{choices[group]}" for group in ("ablation", "architecture") if group in choices]
    path = search_path.find(overlays[0]) if len(overlays) == 1 else None
    if path is None:
        return label
    entries = [entry for entry in search_path.read(path).get("defaults", []) if isinstance(entry, dict)]
    own = {group.removeprefix("override /"): option for entry in entries for group, option in entry.items()}
    usual = variants.label(variants.chosen_options(own), own.get("decoder", variants.USUAL_DECODER))
    return path.stem if usual == label else label


def _check_baseline(slot: str, option: Mapping[str, Any]) -> None:
    """Refuse a technique's baseline that is another than in its file: rows without the technique would not be what they say.

    Raises:
        ConfigError: naming the setting, and the options that have it.
    """
    group = f"technique/{slot}"
    usual = search_path.read_whole(group, option[_LAST])
    places = {one.name: one.place for one in variants.techniques()}
    if slot not in {one.name for one in variants.own()}:
        alike = [one for one in variants.own() if one.place == places[slot]]
        nothing = [str(search_path.read_whole(f"technique/{one.name}", one.baseline)["_target_"]) for one in alike]
        nothing.append("torch.nn.Identity")
        if (target := usual.get("_target_")) not in nothing:
            raise ConfigError(
                f"{group}={option[_LAST]} names {target or 'no code'}, but it is the baseline of slot {slot}: runs that do not "
                f"choose the technique have it, and no record says so. Let it name {' or '.join(nothing)}, or choose another "
                "baseline."
            )
    for name, value in usual.items():
        if "${" in str(value):
            raise ConfigError(
                f"{group}={option[_LAST]}: {name} refers to another setting ({value}). What a technique is left out for is the "
                "same in every run, and no record names it: write the value into its file."
            )
    for name, value in option.items():
        if name not in (*_CODE, _LAST) and usual.get(name) != value:
            others = [one for one in search_path.options(group) if one != option[_LAST]]
            having = ", ".join(one for one in others if name in search_path.read_whole(group, one))
            raise ConfigError(
                f"technique.{slot}.{name}={shown(value)}: {group}={option[_LAST]} is what runs without the technique have, the "
                f"same in all of them. Set it where {group} is another{having and ': '}{having}."
            )
