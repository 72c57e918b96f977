"""From a composed config to live objects. Entry points use this; nothing below it knows of configs."""

from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.data.module import SegmentationData
from src.data.split import Split
from src.data.transforms import EvalTransform, TrainTransform
from src.models.backbone import Backbone
from src.models.segmenter import Segmenter, build_segmenter
from src.models.weights import load_backbone_weights
from src.tasks.segmentation import SegmentationTask


def build_data(config: DictConfig, train: Split, val: Split) -> SegmentationData:
    """Loaders over two splits as the recipe wants them, normalised as the backbone wants them."""
    return SegmentationData(
        train,
        val,
        TrainTransform(**config.recipe.augmentation, long_side=config.recipe.long_side, **config.backbone.normalisation),
        build_eval_transform(config),
        batch_size=config.recipe.batch_size,
        accumulate=config.trainer.accumulate_grad_batches,
        workers=config.runtime.workers,
        seed=config.seed,
    )


def build_eval_transform(config: DictConfig) -> EvalTransform:
    """The transform under which a model of this config is scored."""
    return EvalTransform(config.recipe.long_side, **config.backbone.normalisation)


def build_model(config: DictConfig, classes: int, init: bool = True) -> Segmenter:
    """Fill the model's five slots with the chosen options.

    Args:
        config: with ``technique``, ``backbone``, ``decoder`` and ``seed``.
        classes: number of classes.
        init: load the backbone's first weights; not wanted where a checkpoint follows.
    """
    options = {name: instantiate(option) for name, option in config.technique.items()}
    model = build_segmenter(
        backbone=partial(
            Backbone,
            name=config.backbone.name,
            output_stride=config.backbone.output_stride,
            arguments=plain(config.backbone.arguments),
        ),
        decoder=instantiate(config.decoder),
        classes=classes,
        seed=config.seed,
        **options,
    )
    if init:
        encoder = model.get_submodule("encoder.backbone")
        assert isinstance(encoder, Backbone)
        load_backbone_weights(encoder, config.backbone.init)
    return model


def build_task(config: DictConfig, model: Segmenter, data: SegmentationData) -> SegmentationTask:
    """The LightningModule around a model."""
    recipe = config.recipe
    return SegmentationTask(
        model,
        data.classes,
        optimizer=instantiate(recipe.optimizer),
        schedule=instantiate(recipe.schedule),
        lr=recipe.lr,
        encoder_lr_factor=recipe.encoder_lr_factor,
        weight_decay=recipe.weight_decay,
        val_images=len(data.val_set),
        description={"config": plain(config), "classes": list(data.classes)},
        channels_last=config.runtime.channels_last,
    )


def read_split(config: DictConfig, split: str) -> Split:
    """Read ``train`` or ``val`` of the chosen data set."""
    return instantiate(config.data[split], _convert_="all")


def plain(config: DictConfig) -> dict[str, Any]:
    """A config as plain containers, resolved."""
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def set_precision(config: DictConfig) -> None:
    """Replace ``trainer.precision: auto`` by what the device does best, before the run's key is taken."""
    if config.trainer.precision == "auto":
        on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        config.trainer.precision = "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
