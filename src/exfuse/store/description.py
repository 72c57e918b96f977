"""What a run or a pretraining is: its config, read once at the entry into frozen, typed values. Torch-free.

Every field counts in the run's key unless it is marked `ASIDE`: it says where things lie, who watches or how work is spread.
A field that is added later needs a default; while a run leaves it there, the run's key stays what it was.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from exfuse.errors import CheckpointError
from exfuse.limits import (
    BelowOne,
    DeviceList,
    Devices,
    Duration,
    FromMinusOne,
    NonNegative,
    NonNegativeFloat,
    Part,
    Positive,
    PositiveFloat,
    PositiveShare,
    Range,
    Seed,
    Share,
    ShareRange,
    Text,
    Workers,
)
from exfuse.store.variants import label

ASIDE = Meta(extra={"aside": True})
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]


class Option:
    """An option of a config group: its name in the group and what it is set to.

    The code that it stands for is found by group and name when it is built (`exfuse.config.options`), so that neither a record
    nor a key knows an import path.

    Attributes:
        name: of its file in the group's folder.
        settings: plain values by name.
    """

    __slots__ = ("name", "settings")

    def __init__(self, name: str, settings: Mapping[str, Any] | None = None) -> None:
        self.name, self.settings = name, dict(settings or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Option) and (self.name, self.settings) == (other.name, other.settings)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Option({self.name!r}, {self.settings})"


class _Part(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of the config."""


class Normalisation(_Part, frozen=True):
    mean: Annotated[list[Share], Meta(min_length=1)]  # one a channel
    std: Annotated[list[PositiveFloat], Meta(min_length=1)]


class BackboneDescription(_Part, frozen=True):
    name: str
    init: str
    missing: Annotated[Literal["refuse", "make"], ASIDE]
    output_stride: Literal[32, 16, 8]
    arguments: dict[str, Any]
    normalisation: Normalisation | None


class Augmentation(_Part, frozen=True):
    crop: Positive
    scale: Range
    flip: Share
    colour: NonNegativeFloat


class _Steps(_Part, frozen=True):
    """What every recipe says of the optimiser's steps."""

    optimizer: Option
    schedule: Option
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    epochs: Positive
    batch_size: Positive
    gradient_clip: PositiveFloat | None
    val_every: Annotated[Positive, ASIDE]


class Recipe(_Steps, frozen=True):
    encoder_lr_factor: NonNegativeFloat
    long_side: Positive | None
    augmentation: Augmentation
    ema_decay: Part | None = None


class ClassificationAugmentation(_Part, frozen=True):
    size: Positive
    scale: ShareRange
    flip: Share
    colour: NonNegativeFloat
    auto_augment: str | None
    erase: Share


class ClassificationEvaluation(_Part, frozen=True):
    size: Positive
    crop_share: PositiveShare


class Mixing(_Part, frozen=True):
    mixup: NonNegativeFloat
    cutmix: NonNegativeFloat


class PretrainingRecipe(_Steps, frozen=True):
    label_smoothing: Share
    ema_decay: Share | None
    mixing: Mixing
    augmentation: ClassificationAugmentation
    evaluation: Annotated[ClassificationEvaluation, ASIDE]


class Branches(_Part, frozen=True):
    width_ratio: PositiveFloat
    minimum_width: Positive
    hidden: Positive
    weights: dict[str, NonNegativeFloat]


class Pretraining(_Part, frozen=True):
    data: Option
    recipe: PretrainingRecipe
    branches: Branches
    start: str
    seed: Seed


class Trainer(_Part, frozen=True, kw_only=True):
    """Arguments of Lightning's Trainer; those that nothing here reads are in ``more``."""

    accelerator: Annotated[Literal["auto", "cpu", "gpu", "cuda", "mps"], ASIDE]
    devices: Annotated[Devices | DeviceList | list[NonNegative], ASIDE]
    num_nodes: Annotated[Positive, ASIDE]
    strategy: Annotated[str, ASIDE]
    precision: Precision
    max_epochs: Positive
    check_val_every_n_epoch: Annotated[Positive, ASIDE]
    accumulate_grad_batches: Positive
    gradient_clip_val: PositiveFloat | None
    sync_batchnorm: Annotated[bool, ASIDE]
    deterministic: bool | Literal["warn"]
    log_every_n_steps: Annotated[Positive, ASIDE]
    enable_progress_bar: Annotated[bool, ASIDE]
    enable_model_summary: Annotated[bool, ASIDE]
    use_distributed_sampler: Annotated[bool, ASIDE]
    num_sanity_val_steps: FromMinusOne
    max_time: Annotated[Duration | None, ASIDE] = None
    more: dict[str, Any] = {}


class Runtime(_Part, frozen=True):
    workers: Annotated[Workers, ASIDE]
    prefetch: Annotated[Positive, ASIDE]
    threads: Annotated[Positive | None, ASIDE]
    cache: Annotated[Literal["auto", "none", "memory", "disk"], ASIDE]
    cache_share: Annotated[PositiveShare, ASIDE]
    checkpoint_every: Annotated[Positive, ASIDE]
    channels_last: bool | Literal["auto"]
    compile: bool
    tf32: bool
    composed: bool = True
    augment: Literal["loader", "device"] = "loader"
    micro_batch: Annotated[Positive | Literal["auto"] | None, ASIDE] = None  # becomes trainer.accumulate_grad_batches


class Paths(_Part, frozen=True):
    data: Text
    runs: Text
    backbones: Text
    cache: Text


class Debug(_Part, frozen=True, kw_only=True):
    images: Positive | None
    val_is_train: bool = False


class HeldOut(_Part, frozen=True, kw_only=True):
    """A part of train that a run is scored on in the place of val, which is then not read; see `exfuse.data.subsets.divide`.

    Attributes:
        share: of train's images; 0 for a run that learns from all of train and is scored on val.
        seed: of the draw.
    """

    share: BelowOne = 0.0
    seed: Seed = 0


NOTHING = HeldOut()


class Stop(_Part, frozen=True, kw_only=True):
    """By which rule a training ends before its recipe's epochs, whose schedule stays as long as they are.

    Attributes:
        epochs, steps: after so many; steps are the optimiser's.
        patience: after so many validations without a better mIoU of a part of train that is held out for that. val is read at
            the end alone.
        min_delta: by how much a better mIoU is better.
        share, seed: of train, that part, and of its draw; see `exfuse.data.subsets.divide`.
        floors: mIoU by validation below which no validation so far may lie for the training to go on; of a search's runs, whose
            part of train is held out already.
        every: epochs between two validations where these count, the recipe's ``val_every``.
    """

    epochs: Positive | None = None
    steps: Positive | None = None
    patience: Positive | None = None
    min_delta: BelowOne = 0.0
    share: Part = 0.2
    seed: Seed = 0
    floors: list[Share] | None = None
    every: Positive | None = None


NO_STOP = Stop()
CROSS_ENTROPY = Option("cross_entropy", {"smoothing": 0.0, "class_weights": None})


class Most(_Part, frozen=True):
    """Bounds of a sequential study; ``at_once``: how many comparisons get a seed before the next look."""

    seeds: Positive
    runs: Positive | None
    hours: PositiveFloat | None
    at_once: Positive


class Sweep(_Part, frozen=True):
    missing: Literal["train", "skip"]
    output: str | None
    mixed: bool
    until: Literal["decided"] | None
    size: PositiveFloat | None
    most: Most
    hung: PositiveFloat
    timeout: PositiveFloat | None
    row: str | None = None
    parallel: Positive | Literal["auto"] = "auto"
    known: Text | None = None


class Described(_Part, frozen=True, kw_only=True):
    """What a run and a pretraining describe alike.

    Attributes:
        name: what was typed to ask for it, ``name=`` or the ablation's; for people.
        choices: the option that was chosen in each config group; for people and for the command that makes it again.
        technique: the options that are not the baseline's, by technique; one that is not named here is the baseline's.
    """

    name: Annotated[str, ASIDE]
    choices: Annotated[dict[str, str], ASIDE]
    seed: Seed
    technique: dict[str, Option]
    backbone: BackboneDescription
    decoder: Option
    data: Annotated[Option, ASIDE]  # the manifests stand for it
    pretraining: Annotated[Pretraining, ASIDE]  # the backbone's key stands for it
    trainer: Trainer
    runtime: Runtime
    debug: Debug
    logger: Annotated[Option, ASIDE]
    paths: Annotated[Paths, ASIDE]
    overwrite: Annotated[bool, ASIDE]
    held_out: HeldOut = NOTHING
    sweep: Annotated[Sweep | None, ASIDE] = None  # a run may belong to several
    study: Annotated[dict[str, Any] | None, ASIDE] = None

    @property
    def encoder(self) -> str:
        """What people call the backbone."""
        return encoder_name(self.choices.get("backbone"), self.backbone.name, self.backbone.arguments)


class RunDescription(Described, frozen=True, kw_only=True):
    """A segmentation run: everything that conf/train.yaml composes to.

    Attributes:
        init_from: a finished run's folder or key, whose model this one starts from; in the run's key that key stands for it.
    """

    recipe: Recipe
    loss: Option = CROSS_ENTROPY
    stop: Stop = NO_STOP
    init_from: Annotated[str | None, ASIDE]


class PretrainingDescription(Described, frozen=True, kw_only=True):
    """A pretraining: everything that conf/pretrain.yaml composes to.

    Attributes:
        cost_only: say what it would cost, and stop.
    """

    recipe: PretrainingRecipe
    cost_only: Annotated[bool, ASIDE]


D = TypeVar("D", bound=Described)


def to_plain(described: Described) -> dict[str, Any]:
    """The nested dict that a record keeps; an option is ``{"option": NAME, **settings}``.

    The study and sweep that asked for it are left out, of which there may be several.
    """
    content: dict[str, Any] = msgspec.to_builtins(described, enc_hook=encode_option)
    return {name: part for name, part in content.items() if name not in ("study", "sweep")}


def from_plain(content: Any, kind: type[D], origin: Path | str = "A record") -> D:
    """Read what `to_plain` wrote.

    Args:
        content: plain.
        kind: of description.
        origin: where it was found, for messages.

    Raises:
        CheckpointError: if something is missing, unknown, of another type or out of its range.
    """
    try:
        return msgspec.convert(content, kind, dec_hook=decode_option)
    except msgspec.ValidationError as error:
        raise CheckpointError(
            f"{origin} was written by another version of exfuse, which described runs otherwise ({error}). Use that version, "
            "or train the run again."
        ) from error


def encode_option(value: Any) -> Any:
    """msgspec's hook for an `Option`."""
    if isinstance(value, Option):
        return {"option": value.name, **value.settings}
    raise NotImplementedError(f"a description holds plain values, not {type(value)}")


def decode_option(kind: type, content: Any) -> Any:
    """msgspec's hook for an `Option` in plain containers."""
    if kind is not Option or not isinstance(content, dict) or not isinstance(content.get("option"), str):
        raise ValueError("expected a chosen option and its settings")
    return Option(content["option"], {name: value for name, value in content.items() if name != "option"})


def encoder_name(option: str | None, model: str, arguments: Mapping[str, Any]) -> str:
    """What people call a backbone: its option, since timm's ``model`` with other ``arguments`` is another network.

    The model itself where no option was chosen, or another model was typed in its place; behind the option that takes any model
    also its arguments.
    """
    if option == "timm":
        return f"{model}({', '.join(f'{name}={value}' for name, value in arguments.items())})" if arguments else model
    return option if option and (arguments or option in model) else model


def label_of(run: Described) -> str:
    """The variant's label: its options that are not the baseline's, and its decoder where it is not the usual one."""
    return label({slot: option.name for slot, option in run.technique.items()}, run.decoder.name)


def is_supervised(described: Described) -> bool:
    """Whether the chosen option of SS wants a backbone that was pretrained with branches."""
    return "ss" in described.technique and bool(described.technique["ss"].settings.get("supervised"))
