"""From a description to the live objects of segmentation."""

from collections.abc import Sequence
from typing import Any

import torch
from msgspec.structs import asdict
from torch import nn

from exfuse.composition.common import backbone_factory, learning, loading, normalisation
from exfuse.composition.reading import bands_of, technique_option
from exfuse.config.options import build
from exfuse.config.own_code import own_code
from exfuse.data.device_augmentation import DeviceTransform
from exfuse.data.segmentation import SegmentationData
from exfuse.data.split import Split
from exfuse.data.transforms import EvalTransform, TrainTransform
from exfuse.errors import CheckpointError
from exfuse.fusing.training import accelerate
from exfuse.models.backbone import Backbone
from exfuse.models.places import make_loss
from exfuse.models.segmenter import Segmenter, build_segmenter
from exfuse.models.sources import PUBLIC
from exfuse.models.weights import load_backbone_weights
from exfuse.store.description import Option, RunDescription
from exfuse.store.numbers_version import NUMBERS_VERSION
from exfuse.store.variants import names
from exfuse.tasks.prediction import EvaluationProtocol
from exfuse.tasks.segmentation import SegmentationTask


def build_data(run: RunDescription, train: Split, val: Split) -> SegmentationData:
    """Loaders over two splits as the recipe wants them, normalised as the backbone wants them."""
    augment = DeviceTransform if run.runtime.augment == "device" else TrainTransform
    return SegmentationData(
        train,
        val,
        augment(**asdict(run.recipe.augmentation), long_side=run.recipe.long_side, **_scaling(run)),
        build_eval_transform(run),
        loading(run, run.recipe.batch_size, run.seed),
    )


def build_eval_transform(run: RunDescription) -> EvalTransform:
    """The transform under which a model of this run is scored."""
    return EvalTransform(run.recipe.long_side, **_scaling(run))


def _scaling(run: RunDescription) -> dict[str, Any]:
    return normalisation(run, bands_of(run.data).channels)


def build_protocol(protocol: Option, trained: RunDescription) -> EvaluationProtocol:
    """A choice of conf/protocol for a model of the run ``trained``.

    Windows whose size is left open become as large as the crop it was trained with.

    Raises:
        ConfigError: if a window, overlap or scale makes no sense.
    """
    return build("protocol", open_windows(protocol, trained))


def open_windows(protocol: Option, trained: RunDescription) -> Option:
    """The protocol with windows as large as the crop that the run was trained with, where their size is left open."""
    settings = dict(protocol.settings)
    if (windows := settings.get("windows") or {"window": 0}).get("window", 0) is None:
        settings["windows"] = {**windows, "window": trained.recipe.augmentation.crop}
    return Option(protocol.name, settings)


def build_model(run: RunDescription, classes: int, weights: str = "random") -> Segmenter:
    """Fill the model's slots with the chosen options.

    Args:
        run: what it is.
        classes: number of classes.
        weights: what the encoder starts from, see `exfuse.models.weights.load_backbone_weights`.

    Raises:
        ConfigError: if a choice cannot be built.
        CheckpointError: if the weights do not fit.
    """
    model = build_segmenter(
        backbone=backbone_factory(run, run.backbone.output_stride, bands_of(run.data).channels),
        decoder=build("decoder", run.decoder),
        classes=classes,
        seed=run.seed,
        options={name: technique_option(run.technique, name) for name in dict.fromkeys([*names(), *run.technique])},
    )
    if run.runtime.composed:
        accelerate(model)
    if weights != "random":
        before = {name: value.detach().clone() for name, value in model.encoder.named_parameters()}
        _load_encoder(model.encoder, weights)
        loaded = (name for name, value in model.encoder.named_parameters() if not torch.equal(value, before[name]))
        model.pretrained |= {f"encoder.{name.partition('.')[0]}" for name in loaded}  # the backbone, and SS's branches if any
    return model


def _load_encoder(encoder: nn.Module, weights: str) -> None:
    backbone = encoder.get_submodule("backbone")
    assert isinstance(backbone, Backbone)
    branches = load_backbone_weights(backbone, weights)
    if not hasattr(encoder, "load_branches"):
        return  # somebody's own, which keeps none
    try:
        encoder.load_branches(branches)  # type: ignore[operator]
    except RuntimeError as error:
        if not branches and weights in PUBLIC:
            return  # public weights know no branches: these start at random, as the choice of weights says
        found = "none" if not branches else "others"
        raise CheckpointError(
            f"{weights} does not hold the SS branches that technique/ss=second_conv_features reads ({found} are there; "
            "expected ss.res2.0.weight and so on, as wide as pretraining.branches says). "
            "Pretrain with technique/ss=second_conv_features, or choose another option of technique/ss."
        ) from error


def build_task(
    run: RunDescription, model: Segmenter, classes: Sequence[str], val_images: int, counts: Sequence[int] = ()
) -> SegmentationTask:
    """The LightningModule around a model.

    Args:
        run: with ``recipe`` and ``runtime``.
        model: of as many classes as are named.
        classes: their names.
        val_images: how many images a whole validation counts.
        counts: train's labelled pixels by class, by which a loss may weigh them; nothing for as many of each.
    """
    return SegmentationTask(
        model,
        classes,
        learning(run, run.recipe, classes, numbers_version=NUMBERS_VERSION, code=own_code(run)),
        encoder_lr_factor=run.recipe.encoder_lr_factor,
        val_images=val_images,
        loss=make_loss(f"loss={run.loss.name}", build("loss", run.loss), counts or [1] * len(classes)),
    )
