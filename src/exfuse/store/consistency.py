"""Which settings the runs of one table must share, and where they do not."""

import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, get_type_hints

import msgspec

from exfuse.errors import UserError, plural, some
from exfuse.store.checked import leaves
from exfuse.store.description import RunDescription, encode_option
from exfuse.store.key import SUMS, aside, count_devices
from exfuse.store.record import Record

_VARIES = {"technique", "decoder", "seed"}  # what a study is about
# Of data, at any depth of a pretraining's config: where they lie, what they are called and how their images are grouped, by
# which no run is trained otherwise.
ROOTS = {"root", "sbd_root", "coco_root"}
CALLED = {"download", "counts", "name", "groups", "ordered"}
_PLACES = ROOTS | CALLED
ABSENT = "(absent)"
_SETTLED = "(settled)"
# What tells runs of one name apart, in the order in which it is said.
_TYPED = (
    *("recipe.", "debug.", "technique.", "decoder.", "loss.", "stop.", "backbone.name", "backbone.arguments"),
    *("backbone.output_stride", "backbone.init", "weights", "held_out.share", "pretraining.recipe."),
    *("trainer.precision", "trainer.accumulate_grad_batches", "processes", "init_from"),
    *("backbone.normalisation", "runtime.", "settings.", "trainer.max_epochs", "trainer.gradient_clip_val"),
)
_NAMED = 3  # settings, at most, that tell runs apart
_READ = ("data", "debug", "held_out", "paths")  # decide which images are read
_RESOLVED = {"threads": "runtime", "trainer.precision": "trainer"}  # of the machine, where no override of the group says it
_FOLLOWS = {"recipe.epochs": "trainer.max_epochs", "recipe.gradient_clip": "trainer.gradient_clip_val"}

Named = tuple[str, int, Record]  # row, seed, record


@dataclass(frozen=True)
class Deviation:
    """One setting that not all runs share.

    Attributes:
        setting: such as ``recipe.epochs``.
        usual: the value of most runs, or of as many as any other.
        share: how many runs have it, of how many that have any.
        others: any other value with its runs, (row, seed) each.
        without: rows to which it does not apply.
    """

    setting: str
    usual: str
    share: tuple[int, int]
    others: Mapping[str, Sequence[tuple[str, int]]]
    without: Collection[str] = ()

    def __str__(self) -> str:
        others = "; ".join(f"{value} ({_name_runs(runs)})" for value, runs in self.others.items())
        return f"{self.setting}: {self.usual} in {self.share[0]} of {plural(self.share[1], 'run')}, {others}"

    @property
    def runs(self) -> set[tuple[str, int]]:
        """The (row, seed) that deviate."""
        return {run for runs in self.others.values() for run in runs}


def find_deviations(
    runs: Sequence[Named], varies: Sequence[str] = (), settled: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Deviation, ...]:
    """Compare finished runs in everything that may change a number but what a study varies.

    Pretrained weights differ by SS, LR and seed, so their keys are not compared; how they were pretrained is. Techniques and
    decoder, which rows differ in, are compared within a row.

    Args:
        runs: of one table.
        varies: settings that its rows differ in on purpose, such as ``backbone.output_stride``.
        settled: what a search, or its overrides, settled for each row, by key; what is shared for a run that has just that.
    """
    of_rows: dict[str, list[Named]] = {}
    for one in runs:
        of_rows.setdefault(one[0], []).append(one)
    found = _compare(runs, _settings([record for _, _, record in runs]), varies, settled)
    for these in of_rows.values():  # one thing, whatever settled it
        found += _compare(these, [_variant(record) for _, _, record in these])
    return tuple(found)


def _compare(
    runs: Sequence[Named],
    settings: Sequence[Mapping[str, Any]],
    varies: Sequence[str] = (),
    settled: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Deviation]:
    if all(other == settings[0] for other in settings[1:]):  # the usual case, and much faster
        return []
    own = [(settled or {}).get(row, {}) for row, _, _ in runs]
    flat = [dict(leaves(one)) for one in settings]
    found = []
    for setting in sorted({name for one in flat for name in one} - set(varies)):
        values = [_value(setting, one, chosen) for one, chosen in zip(flat, own, strict=True)]
        counted = Counter(value for value in values if value is not None)
        if len(counted) < 2:
            continue
        [(usual, count)] = counted.most_common(1)
        others: dict[str, list[tuple[str, int]]] = {}
        for value, (row, seed, _) in zip(values, runs, strict=True):
            if value not in (usual, None):
                others.setdefault(value, []).append((row, seed))
        without = {row for value, (row, _, _) in zip(values, runs, strict=True) if value is None}
        found.append(Deviation(setting, usual, (count, counted.total()), others, without))
    return found


def told_apart(records: Iterable[Record], most: int | None = _NAMED) -> dict[str, str]:
    """By key, what people type in which runs of one name are not alike, but for their seeds: ``epochs=3, lr=0.1``.

    Args:
        records: of the runs.
        most: settings to name; None for all.
    """
    found: dict[str, list[str]] = {}
    for runs in _by_name(records):
        asked = [one for one in _within(runs) if one.setting.startswith(_TYPED)]
        for one in sorted(asked, key=lambda one: _TYPED.index(next(filter(one.setting.startswith, _TYPED)))):
            others = {key: value for value, these in one.others.items() for key, _ in these}
            for key, _, _ in runs:
                value = others.get(key, one.usual)
                if value != ABSENT and key not in one.without:
                    found.setdefault(key, []).append(f"{_short(one.setting)}={value}")
    return {key: some(parts, most or len(parts)) for key, parts in found.items()}


def untold(records: Sequence[Record]) -> list[str]:
    """The settings in which runs of one name differ that `told_apart` does not say, such as ``commit``."""
    found = {one.setting for runs in _by_name(records) for one in _within(runs)}
    return sorted(setting for setting in found if not setting.startswith(_TYPED))


def unshared(records: Sequence[Record]) -> list[str]:
    """The settings that not all of these runs share, whatever they are called, but for their variant."""
    found = [one.setting for one in _compare([(one.key, one.seed, one) for one in records], _settings(records))]
    return sorted(found, key=lambda setting: not setting.startswith(("manifests.", "data.", "loss.")))


def _by_name(records: Iterable[Record]) -> list[list[Named]]:
    """Runs of one name together, each called by its key."""
    named: dict[str, list[Named]] = {}
    for record in records:
        named.setdefault(record.title, []).append((record.key, record.seed, record))
    return [*named.values()]


def _within(runs: Sequence[Named]) -> list[Deviation]:
    """How runs of one name differ; what the trainer only repeats of a recipe is said once."""
    records = [record for _, _, record in runs]
    found = _compare(runs, [own | _variant(record) for own, record in zip(_settings(records), records, strict=True)])
    said = {one.setting.removeprefix("pretraining.") for one in found}
    repeated = {follower for setting, follower in _FOLLOWS.items() if setting in said}
    if _are_left_out(records):
        repeated.add("manifests.train")
    return [one for one in found if one.setting not in repeated]


def _are_left_out(records: Sequence[Record]) -> bool:
    """Whether runs that leave out the same share of their images have learnt from the same ones."""
    learnt: dict[str, set[str | None]] = {}
    for record in records:
        stop = [bool(record.setting("stop.patience")), record.setting("stop.share"), record.setting("stop.seed")]
        left_out = str([stop[: 3 if stop[0] else 1], record.setting("debug.images"), record.config.get("held_out")])
        learnt.setdefault(left_out, set()).add(record.manifests.get("train"))
    return all(len(manifests) == 1 for manifests in learnt.values())


def _short(setting: str) -> str:
    return setting.removesuffix(".option").removesuffix(".name").rpartition(".")[2]


def differences(rows: Mapping[str, Record], keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The settings that rows differ in by what they are, with the value of each, by row.

    Args:
        rows: of each a finished run.
        keys: of the overrides by which they differ; which images were read, and what a machine decides where nobody says it,
            are among the settings where these decide it.
    """
    flat = {row: dict(leaves(one)) for row, one in zip(rows, _settings([*rows.values()]), strict=True)}
    found: dict[str, dict[str, Any]] = {row: {} for row in rows}
    groups = {re.split(r"[./@]", key)[0] for key in keys}
    reads = any(group in _READ for group in groups)
    left = {"commit", "code", *(setting for setting, group in _RESOLVED.items() if group not in groups)}
    for setting in sorted({name for one in flat.values() for name in one} - left):
        known = {row: one.get(setting, ABSENT) for row, one in flat.items() if setting in one or not _is_of_a_few(setting)}
        if len({*map(str, known.values())}) > 1 and (reads or not setting.startswith("manifests.")):
            for row, value in known.items():
                found[row][setting] = value
    return {row: settings for row, settings in found.items() if settings}


def _is_of_a_few(setting: str) -> bool:
    """Whether only some runs have it, which ``backbone.init``, or an option of one's own, says of them."""
    return setting.startswith(("pretraining.", "code"))


def refuse(study: str, deviations: Sequence[Deviation]) -> NoReturn:
    """Say why the runs do not belong in one table.

    Raises:
        UserError: always.
    """
    listed = "\n".join(f"  {deviation}" for deviation in deviations)
    raise UserError(
        f"The runs of study {study} differ in more than the study varies:\n{listed}\n"
        "Train them anew under one setting (overwrite=true, what is done), or name a setting in which rows differ on purpose "
        "in the study's `varies`, or tabulate them all the same by sweep.mixed=true: the table then marks them."
    )


def _ignored() -> dict[str, set[str] | None]:
    # what manifests stand for in a key is compared by name here, but for places
    return aside() | {"data": {*_PLACES, "classes", "train", "val"}}


def _settings(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What is compared of each."""
    ignored = _ignored()
    return [_compared(record, ignored) for record in records]


def _compared(record: Record, ignored: Mapping[str, set[str] | None]) -> dict[str, Any]:
    config = _as_today(record.config)
    settings: dict[str, Any] = {
        "commit": record.environment.commit,
        "code": record.environment.code,
        "metric": msgspec.structs.astuple(record.metric),
        "threads": None if record.environment.cuda else record.environment.threads,  # they order the sums of a CPU
        "processes": _sharing(record),
        "manifests": {split: record.manifests.get(split) for split in ("train", "val")},
    }
    for group, value in config.items():
        irrelevant = ignored.get(group, set())
        if group in _VARIES or irrelevant is None:
            continue
        if irrelevant and isinstance(value, Mapping):
            value = {name: item for name, item in value.items() if name not in irrelevant}
        settings[group] = value
    settings["init_from"] = record.init_from.data if record.init_from else None  # keys differ by seed and variant
    backbone = config.get("backbone")
    if backbone:
        settings["backbone"] = settings["backbone"] | {"init": record.weights_name}
        settings["weights"] = record.manifests.get("backbone") if record.weights_name == "file" else None
        if backbone["init"] == "pretrained" and config.get("pretraining"):
            settings["pretraining"] = _without_places(config["pretraining"], {"seed"}) | {"made_with": record.pretrained_with}
    return settings


def _variant(record: Record) -> dict[str, Any]:
    """What rows differ in, as far as it changes a number."""
    ignored = aside()
    return {
        group: {name: item for name, item in record.config.get(group, {}).items() if name not in (ignored.get(group) or ())}
        for group in ("technique", "decoder")
    }


def _sharing(record: Record) -> int | None:
    """Parts of every batch that batch norm or the loss sees each by itself; None where nothing says it."""
    trainer, loss = record.config.get("trainer", {}), record.config.get("loss", {}).get("option", "cross_entropy")
    if not trainer:
        return None
    return 1 if trainer.get("sync_batchnorm") and loss in SUMS else processes_of(record)


def processes_of(record: Record) -> int | None:
    """How many trained a run; of a record that does not say it, as its trainer was set; None for all GPUs of some machine."""
    if record.environment.processes is not None:
        return record.environment.processes
    trainer = record.config.get("trainer", {})
    here = count_devices(trainer.get("devices", 1))
    if here is None and record.environment.cuda:
        return None
    return int(trainer.get("num_nodes", 1)) * (here or 1)


def _as_today(content: Mapping[str, Any], kind: type[msgspec.Struct] = RunDescription) -> dict[str, Any]:
    """A record's config with what earlier versions did not write, as whatever they wrote has it."""
    added, parts = _later(kind)
    told = {name: _as_today(content[name], part) for name, part in parts.items() if isinstance(content.get(name), Mapping)}
    return {**added, **content, **told}


@functools.cache
def _later(kind: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, type[msgspec.Struct]]]:
    """The plain defaults of a description's fields, which came later than the others; and its parts."""
    added = (field for field in msgspec.structs.fields(kind) if field.default is not msgspec.NODEFAULT)
    hints = get_type_hints(kind)
    return (
        {field.name: msgspec.to_builtins(field.default, enc_hook=encode_option) for field in added},
        {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, msgspec.Struct)},
    )


def _without_places(node: Any, also: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
    if isinstance(node, Mapping):
        return {name: _without_places(value) for name, value in node.items() if name not in _PLACES and name not in also}
    return [_without_places(value) for value in node] if isinstance(node, list) else node


def _value(setting: str, run: Mapping[str, Any], chosen: Mapping[str, Any]) -> str | None:
    """What a run has, or that it was settled for its row, or follows from that; None if there is nothing to compare."""
    if setting not in run and _is_of_a_few(setting):
        return None
    value = run.get(setting, ABSENT)
    if setting == "processes" and value is None:
        return None
    for key, settled in chosen.items():
        place = key.lstrip("+").rpartition("@")[2].replace("/", ".")
        if (setting, place) == ("weights", "backbone.init") or setting.startswith(f"{place}."):
            return _SETTLED
        if setting in (place, _FOLLOWS.get(place)) and value == settled:
            return _SETTLED
    return _show(value)


def _show(value: Any) -> str:
    text = "none" if value is None else str(value)
    is_hash = len(text) >= 40 and all(letter in "0123456789abcdef" for letter in text)
    return text[:8] if is_hash else text


def _name_runs(runs: Sequence[tuple[str, int]]) -> str:
    by_row: dict[str, list[int]] = {}
    for row, seed in runs:
        by_row.setdefault(row, []).append(seed)
    named = [f"{row} seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}" for row, seeds in by_row.items()]
    return "; ".join(named[:6]) + (f"; and {len(named) - 6} rows more" if len(named) > 6 else "")
