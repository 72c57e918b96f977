"""From a composed config to the description of a run, once, at the entry: what is wrong is refused here, in one line each."""

import functools
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec
from msgspec.structs import replace
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from exfuse import limits
from exfuse.config import search_path
from exfuse.config.options import checked, fitting, refusal
from exfuse.config.signatures import signature
from exfuse.config.words import expected, nearest_key, shown
from exfuse.errors import CONTROL, ConfigError, plural
from exfuse.store import variants
from exfuse.store.checked import at, leaves
from exfuse.store.description import (
    NO_STOP,
    Option,
    Paths,
    PretrainingDescription,
    RunDescription,
    Trainer,
    decode_option,
)

_TRAINER = "pytorch_lightning.Trainer"
_CODE = ("_target_", "_partial_")
_RECIPES = {"max_epochs": "epochs", "check_val_every_n_epoch": "val_every", "gradient_clip_val": "gradient_clip"}
_FREE = ("benchmark", "detect_anomaly", "gradient_clip_algorithm", "profiler")  # of Lightning's further arguments
_LAST = "option"  # how an option's name stands among its settings
PLACES = [f"paths.{name}" for name in Paths.__struct_fields__]
_T = TypeVar("_T")
Choices = Mapping[str, str | None]


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
    content, written = _plain(config)
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
    content, written = _plain(config)
    chosen = _by_place(choices)
    options = [f"technique.{slot}" for slot in content["technique"]]
    options += ["decoder", "data", "logger", "pretraining.data", *(["loss"] if "loss" in content else [])]
    options += [f"{recipe}.{part}" for recipe in ("recipe", "pretraining.recipe") for part in ("optimizer", "schedule")]
    for place in options:
        *way, leaf = place.split(".")
        if (found := chosen.get(place) or chosen.get(f"pretraining.{place}")) is None:  # a pretraining's recipe is its own
            there = variants.names() if way == ["technique"] else [one for one in chosen if "." not in one]
            raise ConfigError(f"{place}: nothing reads this key. {nearest_key(leaf, there, '.'.join(way))}")
        group, name = found
        node = content
        for step in way:
            node = node[step]
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
    content["trainer"] = _trainer(content["trainer"], written, content["recipe"], chosen.get("debug"))
    content["backbone"] = _backbone(content["backbone"], *chosen["backbone"], written)
    content["choices"] = groups = {group: name for place, (group, name) in chosen.items() if place == group.replace("/", ".")}
    label = variants.label({slot: option[_LAST] for slot, option in content["technique"].items()}, content["decoder"][_LAST])
    if isinstance(content.get("name"), (list, dict, bool)):
        raise ConfigError(refusal("name", content["name"], str, written))
    of_study = at(content, "sweep.row")
    content["name"] = str(content.get("name") or of_study or variant_name(groups, label))
    return _converted(content, kind, written)


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


def _plain(config: DictConfig) -> tuple[dict[str, Any], Any]:
    """The config as plain containers, resolved; and as it is written, by which an error names the key that was set.

    Raises:
        ConfigError: if a value is missing or refers to none, or a number is not finite.
    """
    written = OmegaConf.to_container(config, resolve=False)
    for key, value in leaves(written, into_lists=True):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value}: expected a finite number.")
        if isinstance(value, str) and CONTROL.search(value):
            raise ConfigError(f"{key}={value}: expected text of this locale's encoding, without control characters.")
    try:
        content: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is not set: add {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).strip().splitlines()[0]}") from error
    return content, written


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


def _backbone(node: dict[str, Any], group: str, option: str, written: Any) -> dict[str, Any]:
    file = search_path.read_whole(group, option)
    if (typed := node.pop("_target_", None)) != file.get("_target_"):
        raise ConfigError(f"backbone._target_={typed}: {group}={option} is {file.get('_target_')}, as its file says.")
    return {**node, "arguments": check_backbone(node.get("arguments") or {}, option, node.get("name"), written)}


def own_backbone(option: str | None, name: Any) -> str:
    """The code that a file of the group ``backbone`` brings for the backbone of its own name; empty for a model of timm's."""
    known = option is not None and option == name and search_path.find(f"backbone/{option}") is not None
    return str(search_path.read_whole("backbone", str(option)).get("_target_") or "") if known else ""


def check_backbone(arguments: Any, option: str | None, name: Any, written: Any = None) -> Any:
    """Refuse further arguments of a timm model by which timm would load a file, or which are decided here, and of other code
    those that it does not take.

    Args:
        arguments: of the model.
        option: of the config group.
        name: of the model.
        written: see `exfuse.config.options.checked`.

    Returns:
        The arguments, each of the kind that code of one's own takes.

    Raises:
        ConfigError: naming the argument.
    """
    if target := own_backbone(option, name):
        key, code = "backbone.arguments", {"_target_": target}
        file = code | (search_path.read_whole("backbone", str(option)).get("arguments") or {})
        return checked(key, code | (arguments or {}), file, (key, "backbone", str(option)), written)
    ours = {*signature("timm.create_model").arguments, "features_only", "out_indices", "output_stride", "in_chans"}
    if wrong := sorted(ours & {*(arguments or {})}):
        raise ConfigError(
            f"backbone.arguments.{wrong[0]}: this is decided here. Choose the model by backbone.name, its weights by "
            "backbone.init and its stride by backbone.output_stride; arguments are for the model's own, such as layers."
        )
    return arguments


def _trainer(given: dict[str, Any], written: Any, recipe: Any, debug: tuple[str, str] | None) -> dict[str, Any]:
    """Lightning's arguments: those that are read here by name, any other under ``more``.

    Raises:
        ConfigError: for one that Lightning does not have, or by which a run would not be what its recipe says.
    """
    arguments = signature(_TRAINER).arguments
    if (typed := given.pop("_target_", None)) not in (None, _TRAINER):
        raise ConfigError(f"trainer._target_={shown(typed)}: {_TRAINER} trains every run. Leave it out.")
    ours = {name: value for name, value in given.items() if name in Trainer.__struct_fields__ and name != "more"}
    more = {name: value for name, value in given.items() if name not in ours}
    place = "pretraining.recipe" if isinstance(at(written, "recipe"), str) else "recipe"  # what `recipe` refers to
    for name, setting in _RECIPES.items():
        value, wanted = given.get(name), recipe.get(setting) if isinstance(recipe, dict) else None
        if value != wanted and not isinstance(value, str):
            raise ConfigError(
                f"trainer.{name}={shown(value)}: set {place}.{setting} instead, which is {shown(wanted)}: a run does what its "
                "recipe says."
            )
    decided = search_path.read_whole(*debug).get("trainer", {}) if debug else {}
    for name, value in more.items():
        if name in arguments and name not in _FREE and (name not in decided or decided[name] != value):
            raise ConfigError(
                f"trainer.{name}={shown(value)}: this is decided here, so that a run is what its record says. To be set are "
                f"{', '.join(sorted({*ours} - {*_RECIPES}))} and {', '.join(_FREE)}; for less training there are "
                "recipe.epochs and debug.images."
            )
        if name not in arguments:
            raise ConfigError(
                f"trainer.{name}: Lightning's Trainer has no such argument. {nearest_key(name, [*arguments], 'trainer')}"
            )
        more[name] = fitting(f"trainer.{name}", value, arguments[name].kind, written)
    return {**ours, "more": more}


def _converted(content: Any, kind: type[_T], written: Any) -> _T:
    try:
        found = msgspec.convert(content, kind, dec_hook=decode_option)
    except msgspec.ValidationError as error:
        raise ConfigError(_why(error, content, kind, written)) from error
    if misfit := next(_misfits(found), None):
        raise ConfigError(refusal(*misfit, written))
    return found


def _misfits(part: Any, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Key, value and kind of what is in its range and still not what it should be, see `exfuse.limits.fits`."""
    for name, kind in _hints(part.__class__).items():
        value, key = getattr(part, name), f"{above}{name}"
        if isinstance(value, msgspec.Struct):
            yield from _misfits(value, f"{key}.")
        elif not limits.fits(value, kind):
            yield key, value, kind


@functools.cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)  # type: ignore[arg-type]


def _why(error: msgspec.ValidationError, content: Any, kind: Any, written: Any) -> str:
    """One line for what does not fit: the key, what stands there and what is expected."""
    message, _, way = str(error).partition(" - at `$")
    names = re.findall(r"\.(\w+)|\[(\w+|\.\.\.)\]", way)
    value, keys = content, list[str]()
    for name, index in names:
        if index:
            break  # of a list or mapping: the whole is shown
        kind, value = get_type_hints(_struct(kind), include_extras=True)[name], value[name]
        keys.append(name)
    key = ".".join(keys)
    if unknown := re.search(r"unknown field `(\w+)`", message):
        groups = [] if key else [f"+{group}" for group in search_path.groups() if "/" not in group]
        known = [*_struct(kind).__struct_fields__, *groups]
        return f"{f'{key}.' if key else ''}{unknown[1]}: nothing reads this key. {nearest_key(unknown[1], known, key)}"
    if missing := re.search(r"missing required field `(\w+)`", message):
        wanted = expected(get_type_hints(_struct(kind), include_extras=True)[missing[1]])
        return f"{f'{key}.' if key else ''}{missing[1]} is not set: expected {wanted}."
    return refusal(key, value, kind, written)


def _struct(kind: Any) -> Any:
    """The struct in an annotation such as ``Annotated[Recipe | None, ...]``."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for part in get_args(kind) if (found := _struct(part)) is not None), None)
