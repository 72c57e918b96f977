"""The data and techniques that a description names, without torch: enough to know a run's key in milliseconds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from exfuse.config import search_path
from exfuse.config.options import build
from exfuse.data.bands import Bands
from exfuse.data.census import check_labels
from exfuse.data.labelled import LabelledSplit
from exfuse.data.split import Split
from exfuse.data.subsets import divide
from exfuse.errors import ConfigError, DataError, some
from exfuse.limits import Orientation
from exfuse.store.description import NOTHING, Described, HeldOut, Option, RunDescription
from exfuse.store.grouping import COLUMN, GroupRule
from exfuse.store.variants import technique


def read_split(data: Option, split: str, held_out: HeldOut = NOTHING) -> Split:
    """Read ``train`` or ``val`` of a data set, or, with a share held out, what `divide` makes of its train: val is not read.

    Raises:
        DataError: see the readers and `exfuse.data.census.check_labels`.
    """
    found = divide(_built(data, "train"), held_out.share, held_out.seed)[split] if held_out.share else _built(data, split)
    check_labels(found)
    return found


def _built(data: Option, split: str) -> Split:
    found = build("data", data, split)
    if not isinstance(found, Split):
        raise _other(f"data={data.name}", found, split, "exfuse.data.split.Split, such as make_split gives")
    _check_reader(data, found, split)
    return found


def _check_reader(data: Option, found: Split, split: str) -> None:
    """What a data set's file says at its top, by which networks and predictions are made, is what its reader was told.

    Raises:
        ConfigError: naming the first key in which they differ.
    """
    said, asked, bands = data.settings, bands_of(data), found.bands
    classes, void_ids, ids = said.get("classes"), said.get("void_ids"), said.get("ids")
    count = counts.get(split) if isinstance(counts := said.get("counts"), dict) else None
    for key in ("void_ids", "ids"):
        if not isinstance(said.get(key), list | tuple | None):
            raise ConfigError(f"data.{key}={said[key]!r}: expected a list of numbers from 0 to 255.")
    if said.get("orientation") not in (None, *get_args(Orientation)):
        choices = ", ".join(get_args(Orientation))
        raise ConfigError(f"data.orientation={said['orientation']!r}: expected one of {choices}.")
    by, groups = said.get("groups"), [item.group for item in found.items]
    if not isinstance(by, str | None):
        raise ConfigError(f"data.groups={by!r}: expected text or null. YAML reads no and off as false: quote them.")
    grouped = any(groups) or split == "val"  # of some data the images to train on have none
    ruled = groups if not grouped or by in (None, COLUMN) else [GroupRule(by).group(item.id) for item in found.items]
    ordered = said.get("ordered")
    ordered = bool(ordered) if grouped and (by or ordered is not None) else found.ordered
    turned = "upright" if any(item.upright for item in found.items) else found.orientation
    upright = photographs_upright(data)  # of predictions
    differ = {
        "channels": (asked.channels, bands.channels) if asked.channels != bands.channels else None,
        "range": (asked.range, bands.range) if asked.range != (bands.range and tuple(bands.range)) else None,
        "classes": (classes, found.classes) if isinstance(classes, list) and [*found.classes] != classes else None,
        "void_ids": (void_ids, found.void_ids) if isinstance(void_ids, list) and {*void_ids} != {*found.void_ids} else None,
        "ids": (ids, found.ids) if isinstance(ids, list) and [*found.ids] != ids else None,
        "counts": (count, len(found)) if count not in (None, len(found)) else None,
        "groups": (by, some(sorted({*groups})) or None) if ruled != groups or (by and grouped and not any(groups)) else None,
        "ordered": (ordered, found.ordered) if ordered != found.ordered else None,
        "orientation": (said.get("orientation"), turned) if turned == ("stored" if upright else "upright") else None,
    }
    for key, one in differ.items():
        if one is not None:
            raise ConfigError(
                f"data={data.name}: data.{key} is {_text(one[0])}, its reader gave {_text(one[1])} for {split}. Networks and "
                f"predictions follow the one, training and scores the other: write {key} at the top of the data set's file, "
                f"hand it on to the reader ({key}: ${{data.{key}}}), and the reader to make_split."
            )


def _text(value: object) -> str:
    return "null" if value is None else repr(list(value)) if isinstance(value, list | tuple) else str(value)


def _other(typed: str, found: object, split: str, wanted: str) -> ConfigError:
    return ConfigError(f"{typed}: its reader gave {type(found).__name__} for {split}, expected {wanted}. See docs/extend.md.")


def split_of(described: Described, split: str) -> Split:
    """Read what a run learns from, ``train``, or is scored on, ``val``; see `read_split`."""
    return read_split(described.data, split, described.held_out)


def split_scored_on(described: Described, manifest: str, run: Path) -> Split:
    """``val`` of a run, whose images are those that the run was scored on.

    Args:
        described: the run.
        manifest: of the images that its record scores.
        run: its folder, for the message.

    Raises:
        DataError: if they are others by now.
    """
    split = split_of(described, "val")
    if split.manifest() != manifest:
        raise DataError(f"{run}: {split.name} is not what this run was scored on. Restore its files, or train it anew.")
    return split


def photographs_upright(data: Option) -> bool:
    """Whether a photograph without a mask is turned as its camera says: unless these data are read as they are stored."""
    return data.settings.get("orientation") != "stored"


def bands_of(data: Option) -> Bands:
    """What is read of images of these data."""
    span = data.settings.get("range")
    found = Bands(data.settings.get("channels", 3), tuple(span) if isinstance(span, list) else span)  # type: ignore[arg-type]
    if found.problem:
        raise ConfigError(f"data.{found.problem}")
    return found


def read_labelled_split(described: Described, split: str) -> LabelledSplit:
    """``train`` or ``val`` of the pretraining's data; cheap until somebody asks for its items."""
    return labelled_split(described.pretraining.data, described.data, described.debug.images, split, described.held_out)


def labelled_split(
    labelled: Option, data: Option, images: int | None, split: str, held_out: HeldOut = NOTHING
) -> LabelledSplit:
    """``train`` or ``val`` of classification data that may be cut from segmentation ``data``; the first so many images."""
    if not bands_of(data).usual and (own := [part for part in labelled.settings.values() if "${data." in str(part)]):
        raise ConfigError(
            f"pretraining/data={labelled.name} cuts its images out of these data ({own[0]}), but a classifier sees RGB of "
            f"8 bits and data.channels is {bands_of(data).channels}, data.range {bands_of(data).range}. Choose "
            "backbone.init=timm, a file of weights or random, or other pretraining/data."
        )
    beside = {"data": lambda part: read_split(data, part, held_out)}
    found = build("pretraining/data", labelled, split, beside)
    if not isinstance(found, LabelledSplit):
        raise _other(f"pretraining/data={labelled.name}", found, split, "exfuse.data.labelled.LabelledSplit")
    return replace(found, limit=images)


def labelled_counts(described: Described) -> tuple[int, int]:
    """Images and classes that a pretraining learns from, as its config counts them, whether or not the data are there."""
    counts = described.pretraining.data.settings.get("counts") or {}
    if counts.get("train") is not None and counts.get("classes") is not None:
        return counts["train"], counts["classes"]
    train = read_labelled_split(described, "train")
    return len(train), len(train.classes)


def number_of_classes(run: RunDescription) -> int:
    """That it tells apart, as its config counts them or as its data are read."""
    classes = run.data.settings.get("classes")
    return len(classes if isinstance(classes, list) else split_of(run, "val").classes)


def technique_option(chosen: Mapping[str, Option], slot: str) -> Callable[..., Any]:
    """The chosen option of a technique, or its baseline's, as a function that still waits for what the others decide."""
    group = f"technique/{slot}"
    option = chosen.get(slot) or search_path.as_written(group, technique(slot).baseline)
    found = build(group, option)
    if not callable(found):
        raise ConfigError(f"{group}={option.name}: its file names no code: _target_: module.Class and _partial_: true.")
    return found
