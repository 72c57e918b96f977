"""The record of a run or backbone: what it is, how it ended and what it scored; whole and unaltered, or refused by name."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from exfuse.errors import UserError, reason_of
from exfuse.limits import Amount, Count, Share
from exfuse.metrics.iou import Areas
from exfuse.store.checked import at, plain, read_plain, sealed, typed, write_sealed_json
from exfuse.store.costs import Costs
from exfuse.store.description import encoder_name
from exfuse.store.metric import MIOU, Metric

SCHEMA = 3
RECORD = "record.json"  # its file
KEY = re.compile(r"[0-9a-f]{16}")  # of a run
OLD = 2  # of keys and configs that hold import paths; read, shown and marked, never made again
DONE, RUNNING, INTERRUPTED, FAILED, KILLED = "done", "running", "interrupted", "failed", "killed"
_PUBLIC = ("random", "timm", "package", "pretrained")
_OF_BACKBONES = ("data", "classes", "excludes", "accuracy", "gigamacs", "precision", "sha256")  # beside the rest in schema 2


class Environment(msgspec.Struct, frozen=True):
    """Where a run took place; None where it is not known.

    Attributes:
        packages: their versions by name.
        commit: of the code; ``uncommitted_changes`` says whether it was what ran.
        code: SHA-256 of what the run's options name outside this package, by ``GROUP=OPTION``, and of its source files, by
            module; empty where none name any.
        processes: that shared every batch; None where records did not say it.
    """

    packages: dict[str, str | None] = {}
    python: str = ""
    system: str = ""
    device: str | None = None
    cores: int | None = None
    threads: int | None = None
    processes: int | None = None
    cuda: str | None = None
    commit: str | None = None
    uncommitted_changes: bool | None = None
    code: dict[str, str] = {}

    @property
    def short_commit(self) -> str:
        """Seven digits of the commit, or "unknown"."""
        return str(self.commit or "unknown")[:7]


def uncommitted_text(uncommitted: bool | None) -> str:
    """What to say behind a commit of what ran; empty if that was the commit itself."""
    return {True: " with uncommitted changes", False: "", None: " (uncommitted changes unknown)"}[uncommitted]


class InitFrom(msgspec.Struct, frozen=True):
    """The run whose whole model another one started from: its key, data set, label and the SHA-256 of its checkpoint."""

    key: str = ""
    data: str = ""
    label: str = ""
    checkpoint: str = ""


class BoundaryScores(msgspec.Struct, frozen=True):
    """Mean IoUs near borders and inside objects, one a radius in px, and boundary IoU; None where there is no such pixel."""

    radii: list[int]
    edge: list[Share | None]
    interior: list[Share | None]
    boundary: Share | None


class Scores(msgspec.Struct, frozen=True):
    """What a segmentation scored on its val split.

    Attributes:
        miou, pixel_accuracy: fractions; the latter None where other code counted some pixels' predictions or truth alone.
        iou: of each class; None for a class that the truth does not hold.
        images: how many were scored.
        confusion: counts (C, C) over all of them, row = true class, column = predicted; empty where
            other code counted areas alone.
        boundary: near borders; None where that was not counted.
        devkit_miou: with 0 for a class that is predicted but not in the truth, see `exfuse.metrics.iou`; None in old records.
    """

    miou: Share
    pixel_accuracy: Share | None
    iou: dict[str, Share | None]
    images: Count
    confusion: list[list[Count]]
    boundary: BoundaryScores | None = None
    devkit_miou: Share | None = None

    @classmethod
    def of(
        cls,
        areas: Areas,
        classes: Sequence[str],
        confusion: NDArray[np.int64] | None = None,
        boundary: BoundaryScores | None = None,
    ) -> "Scores":
        """From areas of each image (images, C), and the confusion counts (C, C) of all, where they are known."""
        total = areas.total()
        return cls(
            miou=float(total.mean_iou()),
            pixel_accuracy=float(total.hit.sum() / total.true.sum()) if total.predicted.sum() == total.true.sum() else None,
            iou={name: float(one) if math.isfinite(one) else None for name, one in zip(classes, total.iou(), strict=True)},
            images=len(areas.true),
            confusion=[] if confusion is None else confusion.tolist(),
            boundary=boundary,
            devkit_miou=float(total.mean_iou(devkit=True)),
        )


class Averaged(msgspec.Struct, frozen=True):
    """What a run of other code scored: ``value``, a mean over ``images``, of ``metric``."""

    value: float
    images: Count
    metric: Metric


class Health(msgspec.Struct, frozen=True):
    """How a training went, apart from what it scored.

    Attributes:
        highest_loss: of all epochs the highest mean, over the labelled pixels of its steps after warm-up, of the main cross
            entropy without auxiliary losses or weights; infinite where it was no number, None where warm-up never ended.
        first_loss: likewise, of the first step.
        gradient_norms: of that step, before clipping, by slot of the model: encoder, embedding, decoder, head, ...
        correlations: of what enters the decoder with what left the encoder, by level, where a technique such as SEB stands
            between: Pearson's, over some images of val at the end.
    """

    highest_loss: float | None = None
    first_loss: float | None = None
    gradient_norms: dict[str, float] = {}
    correlations: dict[str, float] = {}


class Stopped(msgspec.Struct, frozen=True):
    """Where a rule ended a training before its recipe's epochs.

    Attributes:
        epochs: by the optimiser's ``steps``.
        of: the recipe's.
    """

    epochs: Amount
    steps: Count
    of: Count

    def __str__(self) -> str:
        return f"stopped at {self.epochs:.4g} of {self.of}"


class BackboneRecord(msgspec.Struct, frozen=True):
    """What a pretraining's record holds beside a run's.

    Attributes:
        data: name of what it learnt to classify, ``classes`` of them.
        excludes: manifests of val splits whose images certainly took no part.
        accuracy: on val, of the head, ``main``, and of each branch; fractions.
        gigamacs: multiply-adds of one image, 10^9.
        precision: number format of the training.
        sha256: of the weights.
    """

    data: str
    classes: list[str]
    excludes: list[str] = []
    accuracy: dict[str, Share] = {}
    gigamacs: Amount = 0.0
    precision: str = ""
    sha256: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run or backbone says of itself, from its start to its end.

    Attributes:
        schema: of the file; `old` says whether it is that of earlier versions.
        status: running, then done, failed, interrupted or killed; only a whole run calls itself done.
        name: for people, as it was typed; empty where nobody named it.
        label: the variant's, see `exfuse.store.variants.label`.
        choices: the option that was chosen in each config group.
        weights: what the encoder started from, in words.
        manifests: of the data's splits and the weights, as the key knows them.
        images: how many each split has.
        seen_groups: of val's groups of images that are not independent those of which train has images, too.
        config: plain.
        pretrained_with: of a pretrained backbone what its key does not say and its weights depend on.
        seconds: of its training over all starts; in records of earlier versions of its last start alone.
        confusion_sha256, boundary_sha256, checkpoint_sha256, imported_sha256: of the files beside the record.
        scored_by: where it was scored again, if it was.
        class_weights: by which the loss counted a pixel of each class, where it weighs them.
        looks: validation by validation the mIoU that a rule for stopping saw.
        stopped: where a rule ended the training; None where it went through all of its epochs.
        health: of a finished segmentation, or one whose numbers were no longer finite; None in records of before it was kept.
        scored: of a finished segmentation, see `scores`.
        averaged: of a run whose score is no mIoU.
        imported: the file that other code wrote of its run; empty for a run of this project.
        pretraining: of a backbone.
        reason, traceback: why it is not done.
    """

    key: str
    status: str
    schema: int = SCHEMA
    name: str = ""
    label: str = ""
    choices: dict[str, str] = {}
    seed: int = 0
    weights: str = ""
    manifests: dict[str, str] = {}
    images: dict[str, int] = {}
    seen_groups: list[str] = []
    config: dict[str, Any] = {}
    init_from: InitFrom | None = None
    pretrained_with: dict[str, Any] = {}
    environment: Environment = Environment()
    parameters: Count = 0
    seconds: Amount = 0.0
    costs: Costs | None = None
    scored_by: Environment | None = None
    class_weights: dict[str, float] = {}
    looks: list[float] = []
    stopped: Stopped | None = None
    health: Health | None = None
    scored: Scores | None = msgspec.field(default=None, name="scores")
    averaged: Averaged | None = None
    imported: str = ""
    pretraining: BackboneRecord | None = msgspec.field(default=None, name="backbone")
    checkpoint_sha256: str | None = None
    confusion_sha256: str | None = None
    boundary_sha256: str | None = None
    imported_sha256: str | None = None
    reason: str = ""
    traceback: str = ""

    @property
    def old(self) -> bool:
        """Whether the record is of an earlier schema: its key and config name import paths."""
        return self.schema < SCHEMA

    @property
    def title(self) -> str:
        """What people call the run: its name, or else the variant's label."""
        return self.name or self.label

    @property
    def options(self) -> dict[str, str]:
        """The option of each technique that the record names."""
        group = "technique/"
        return {name.removeprefix(group): option for name, option in self.choices.items() if name.startswith(group)}

    @property
    def decoder(self) -> str:
        """The option of the decoder."""
        return self.choices.get("decoder", "")

    @property
    def done(self) -> bool:
        """Whether the run or backbone was finished."""
        return self.status == DONE

    @property
    def scores(self) -> Scores:
        """Of a finished segmentation.

        Raises:
            ValueError: if the record is of anything else; `scored` is then None.
        """
        if self.scored is None:
            raise ValueError(f"run {self.key}, {self.status}, has no scores")
        return self.scored

    @property
    def has_score(self) -> bool:
        """Whether it is that of a run that was scored, and no backbone's."""
        return self.scored is not None or self.averaged is not None

    @property
    def score(self) -> float:
        """What a finished run scored, in units of its `metric`.

        Raises:
            ValueError: if the record is of anything else.
        """
        return self.averaged.value if self.averaged else self.scores.miou

    @property
    def metric(self) -> Metric:
        """Of `score`."""
        return self.averaged.metric if self.averaged else MIOU

    @property
    def backbone(self) -> BackboneRecord:
        """What a pretraining leaves beside a run.

        Raises:
            ValueError: if the record is of a run; `pretraining` is then None.
        """
        if self.pretraining is None:
            raise ValueError(f"run {self.key} is no backbone")
        return self.pretraining

    @property
    def guessing(self) -> float:
        """The loss of guessing among as many classes as were scored, ln C."""
        return math.log(len(self.classes))

    @property
    def diverged(self) -> bool:
        """Whether an epoch's mean loss lay above that of guessing, after warm-up, or was no number: such a run failed."""
        highest = self.health.highest_loss if self.health else None
        return highest is not None and highest > (self.guessing if self.scored else sys.float_info.max)

    @property
    def classes(self) -> list[str]:
        """Names of the classes that a finished segmentation was scored on."""
        return list(self.scores.iou)

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.pretraining.data if self.pretraining else str(self.config["data"]["name"])

    @property
    def encoder(self) -> str:
        """What people call the backbone."""
        backbone = self.config["backbone"]
        return encoder_name(self.choices.get("backbone"), str(backbone["name"]), backbone.get("arguments") or {})

    @property
    def weights_name(self) -> str:
        """What the encoder started from: random, timm, package, pretrained, file or run; empty where other code trained it."""
        if self.imported:
            return ""
        if self.init_from is not None:
            return "run"
        init = str(self.config["backbone"]["init"])
        return init if init in _PUBLIC else "file"

    @property
    def why(self) -> str:
        """In one line why the run is not done, see `exfuse.errors.reason_of`; empty if nothing is known."""
        return reason_of(self.reason or self.traceback)

    def cost(self, key: str) -> float | None:
        """One of `exfuse.store.costs.COSTS`; None where it was not measured."""
        value: float | None = getattr(self.costs, key) if self.costs else None
        return self.parameters or None if value is None and key == "parameters" else value

    def setting(self, name: str) -> Any:
        """The value of a setting of the config, such as ``backbone.output_stride``; None if it has none."""
        return at(self.config, name)


def write_record(path: Path, record: Record) -> Record:
    """Write a record with a checksum over the rest, atomically, and return it.

    On a full disk a record that is not done takes the place of the one before in the blocks that this has.
    """
    content = {"schema": record.schema, **plain(record)}
    try:
        write_sealed_json(path, content)
    except OSError:
        packed = json.dumps(sealed(content | {"traceback": ""})).encode()  # shorter: no line breaks
        if record.done or not path.is_file() or len(packed) > path.stat().st_size:
            raise
        with path.open("r+b") as file:
            file.write(packed)
            file.truncate()
    return record


def read_record(path: Path, key: str | None = None) -> Record:
    """Read the record of the run or backbone ``key``; None leaves it to the file which one it is.

    Raises:
        UserError: if it is cut short, altered, of another run or of a schema that this version does not know: it must not be
            trusted.
    """
    what, advice = f"a whole record of {key or 'a run'}", "Delete its folder, or add overwrite=true to make it anew."
    content = read_plain(path, what, advice, OLD, SCHEMA)
    if not content.get("status"):
        raise UserError(f"{path} is not {what}: it says no status. {advice}")
    if (own := content.get("key")) != (key or own):
        raise UserError(
            f"{path} is the record of {own}. A run's folder is called by its key: rename {path.parent} back to {own}."
        )
    found = typed(content if content["schema"] == SCHEMA else _today(content), Record, path, what, advice)
    says = {name: _Says.of(getattr(found, name), f"{path} does not say", name) for name in ("config", "images", "manifests")}
    return msgspec.structs.replace(found, **says)


class _Says(dict[str, Any]):
    """What a record says; what it does not say, as one that was made by hand may not, is a mistake of the user's."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        super().__init__(content)
        self._where = where

    @classmethod
    def of(cls, node: Any, words: str, key: str) -> Any:
        if not isinstance(node, dict):
            return node
        parts = {name: cls.of(value, words, f"{key}.{name}") for name, value in node.items() if isinstance(value, dict)}
        return cls(node | parts, f"{words} {key}")

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self._where}.{name}: it is of another version, or was made by hand. Make it anew.")


def _today(content: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 2 in today's layout."""
    found = {name: value for name, value in content.items() if name not in _OF_BACKBONES}
    if "excludes" in content:
        found["backbone"] = {name: content[name] for name in _OF_BACKBONES if name in content}
    if "detail" in (scores := content.get("scores") or {}):
        found["scores"] = {**scores, "boundary": scores["detail"]}
    return found
