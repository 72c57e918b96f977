"""On what data a table's runs were trained and scored, by which recipe, from which weights and on what machine."""

import re
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from exfuse.analysis.footnotes.wording import distinct, percent, span, taken, values_of
from exfuse.errors import plural, some
from exfuse.store.checked import leaves
from exfuse.store.record import Record
from exfuse.store.study import Study
from exfuse.store.study_file import SETTINGS

_PLAIN = "cross_entropy"


def where(study: Study) -> str:
    """Data set, split and seeds, as captions name them."""
    records = [record for _, _, record in study.done()]
    if not records:
        return "no finished run"
    names = " and ".join(dict.fromkeys(record.data for record in records))
    images = " or ".join(dict.fromkeys(str(record.images["val"]) for record in records))
    split = f"{images} images" if study.imported else f"val ({images} images)"
    return f"{names}, {split}, {_seeds(records)}"


def about_data(records: Sequence[Record]) -> str:
    """Names, numbers of images and the classes that are scored."""
    names = distinct(records, lambda record: record.data)
    train, val = (span(record.images[split] for record in records) for split in ("train", "val"))
    seen = sorted({group for record in records for group in record.seen_groups})
    told = f" Train has images of {plural(len(seen), 'group')} of val, too: {some(seen)}." if seen else ""
    return f"Data: {names}, {train} images to train on, {val} to score on; {_classes(records[0], 'val')}.{told}"


def _classes(record: Record, where: str) -> str:
    scores = record.scores.iou
    absent = [name for name, value in scores.items() if value is None]
    present = len(scores) - len(absent)
    over = f"mIoU is over the {present} class{'' if present == 1 else 'es'} present in {where}"
    devkit = "; VOC's devkit counts such a class as 0 where it is predicted: miou_devkit in the CSV"
    return over + (f" (absent: {', '.join(absent)}{devkit})" if absent else "")


def about_other_code(records: Sequence[Record]) -> list[str]:
    """What is known of runs that other code made: what its files say."""
    names, images = distinct(records, lambda record: record.data), span(record.images["val"] for record in records)
    over = f"; {_classes(records[0], 'them')}" if records[0].scored else ""
    shared = dict(leaves(records[0].config[SETTINGS]))
    for record in records[1:]:
        own = dict(leaves(record.config[SETTINGS]))
        shared = {name: value for name, value in shared.items() if name in own and own[name] == value}
    said = ", ".join(f"{name} {value}" for name, value in shared.items() if name)
    return [
        f"Data: {names}, scored on {images} images{over}; {_seeds(records)}.",
        *([f"Every run: {said}."] if said else []),
        *(
            ["Parameters and GMACs are those that the files name."]
            if any(record.parameters or record.costs for record in records)
            else []
        ),
        "Trained and scored by other code; means, intervals and p are computed here, from what its files say of each image.",
    ]


def brief_data(study: Study) -> str:
    """What was trained and scored on what, in a line."""
    records = [record for _, _, record in study.done()]
    if study.imported:
        images = span(record.images["val"] for record in records)
        return f"Data: {distinct(records, lambda record: record.data)}, {images} images."
    train, val = (span(record.images[split] for record in records) for split in ("train", "val"))
    epochs = _epochs(records)
    data, encoder = distinct(records, lambda record: record.data), distinct(records, lambda record: record.encoder)
    return f"Data: {data}, {train} images to train on and {val} to score on; {encoder.replace('_', ' ')}, {epochs}."


def _in_parts(records: Sequence[Record]) -> str:
    told = distinct(records, lambda record: record.setting("trainer.accumulate_grad_batches") or 1)
    return "" if told == "1" else f" in {told} parts, of which batch norm sees one at a time"


def _epochs(records: Sequence[Record]) -> str:
    told = distinct(records, lambda record: record.config["recipe"]["epochs"])
    return f"{told} epoch{'' if told == '1' else 's'}"


def about_recipe(records: Sequence[Record]) -> str:
    """Epochs, batches, crops, optimiser, rate and precision, and what of the loss is not plain."""

    def of(name: str) -> str:
        return distinct(records, lambda record: record.config["recipe"][name])

    parts = [
        _epochs(records),
        f"batches of {of('batch_size')}{_in_parts(records)}",
        f"crops of {distinct(records, lambda record: record.config['recipe']['augmentation']['crop'])} px",
        f"{distinct(records, _optimizer)}, learning rate {of('lr')}",
        f"precision {distinct(records, lambda record: record.config['trainer']['precision'])}",
    ]
    if any((record.setting("loss.option") or _PLAIN) != _PLAIN or record.setting("loss.smoothing") for record in records):
        parts.append(f"loss {distinct(records, _loss)}")
    if any(record.setting("recipe.ema_decay") for record in records):
        parts.append(f"moving average of the weights, decay {distinct(records, lambda one: one.setting('recipe.ema_decay'))}")
    name = distinct(records, lambda record: record.choices.get("recipe"))
    rule = "".join(f" {sentence}" for sentence in dict.fromkeys(filter(None, map(_rule, records))))
    return f"Recipe{f' {name}' if name else ''}: {', '.join(parts)}; {_seeds(records)}.{rule}"


def _loss(record: Record) -> str:
    """Its option; of a sum its parts with their weights."""
    loss = record.setting("loss") or {"option": _PLAIN}
    name = str(loss["option"])
    if weights := {part: weight for part, weight in (loss.get("weights") or {}).items() if weight}:
        name = " + ".join(f"{weight:g} {part}" for part, weight in weights.items())
    return f"{name}{' smoothed' if loss.get('smoothing') else ''}".replace("_", " ")


def _rule(record: Record) -> str:
    """By which rule its training stopped before its recipe's epochs; empty if by none."""
    stop = record.setting("stop") or {}
    limits = [f"after {plural(stop[unit], unit.removesuffix('s'))}" for unit in ("epochs", "steps") if stop.get(unit)]
    if patience := stop.get("patience"):
        limits.append(
            f"once {plural(patience, 'validation')}, one every {plural(stop['every'], 'epoch')}, found no better mIoU on "
            f"{percent(stop['share'])} of train, which is held out for that, val being read at the end alone"
        )
    return f"A training stops {' or '.join(limits)}." if limits else ""


def _optimizer(record: Record) -> str:
    optimizer = record.config["recipe"]["optimizer"]
    return str(optimizer.get("option") or optimizer["_target_"].rpartition(".")[2])  # the latter in records of schema 2


def _seeds(records: Sequence[Record]) -> str:
    seeds = sorted({record.seed for record in records})
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def about_health(records: Sequence[Record]) -> list[str]:
    """What the column of that name says."""
    if not any(record.health for record in records):
        return []
    said = "Health, of a row's worst run: the highest mean loss of an epoch after warm-up over that of guessing, ln C"
    if any(record.health and record.health.correlations for record in records):
        said += "; r: the lowest correlation of what enters the decoder with what left the encoder"
    return [f"{said}."]


def about_backbone(records: Sequence[Record]) -> str:
    """The encoder, its stride and where its weights are from."""
    name = distinct(records, _encoder)
    stride = distinct(records, lambda record: record.config["backbone"]["output_stride"])
    return f"Backbone: {name}, output stride {stride}; weights: {distinct(records, _weights, '; ')}."


def _encoder(record: Record) -> str:
    """With timm's name for it, where it is timm's and called otherwise."""
    backbone = record.config["backbone"]
    known = backbone.get("arguments") or backbone["name"] == record.encoder
    return record.encoder if known else f"{record.encoder} ({backbone['name']})"


def _weights(record: Record) -> str:
    """The record's description without its accuracy, which differs by seed, and without places on somebody's disk."""
    text = re.sub(r", accuracy .*", "", str(record.weights))
    if text.startswith("weights of "):
        return f"weights of {PurePath(text.removeprefix('weights of ')).name}"
    return text


def about_machine(study: Study, records: Sequence[Record]) -> str:
    """Device, threads, time, versions and commit, and which of them differ between runs."""

    def of(name: str) -> Callable[[Record], Any]:
        return lambda record: getattr(record.environment, name)

    packages = sorted({name for record in records for name in record.environment.packages})
    versions = {name: values_of(records, _version_of(name)) for name in packages}
    differing = [f"{name} {' or '.join(found)}" for name, found in versions.items() if len(found) > 1]
    text = f"Trained on {distinct(records, of('device'), ' and ')}, threads: {distinct(records, of('threads'))}"
    text += f", {plural(len(records), 'run')}, {taken(records)} in all"
    text += f", torch {distinct(records, _version_of('torch'))}"
    text += f", commit {distinct(records, lambda record: record.environment.short_commit)}."
    if dirty := sum(bool(record.environment.uncommitted_changes) for record in records):
        text += f" {plural(dirty, 'run')} of {len(records)} ran with uncommitted changes."
    if unknown := sum(record.environment.uncommitted_changes is None for record in records):
        text += f" Whether {plural(unknown, 'run')} of {len(records)} ran with uncommitted changes is unknown."
    if old := sum(record.old for record in records):
        text += f" {plural(old, 'record')} of {len(records)} by an earlier version, which made keys otherwise."
    if len(values_of(records, of("device"))) > 1 and study.measured is None:
        text += " Runs used different devices: their costs in time are not comparable."
    return text + (f" Package versions differ: {'; '.join(differing)}." if differing else "")


def _version_of(package: str) -> Callable[[Record], Any]:
    return lambda record: record.environment.packages.get(package)
