"""From a composed config to the live objects of segmentation. Nothing below this knows of configs."""

from collections.abc import Sequence

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from exfuse.composition.common import backbone_factory, cache_policy
from exfuse.composition.reading import describe_run
from exfuse.data.module import SegmentationData
from exfuse.data.split import Split
from exfuse.data.transforms import EvalTransform, TrainTransform
from exfuse.errors import CheckpointError, ConfigError
from exfuse.fusing.training import accelerate
from exfuse.models.backbone import Backbone
from exfuse.models.segmenter import Segmenter, build_segmenter
from exfuse.models.sources import PUBLIC
from exfuse.models.weights import load_backbone_weights
from exfuse.tasks.protocols import EvaluationProtocol
from exfuse.tasks.segmentation import SegmentationTask


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
        cache=cache_policy(config),
        prefetch=config.runtime.prefetch,
    )


def build_eval_transform(config: DictConfig) -> EvalTransform:
    """The transform under which a model of this config is scored."""
    return EvalTransform(config.recipe.long_side, **config.backbone.normalisation)


def build_protocol(protocol: DictConfig, trained: DictConfig) -> EvaluationProtocol:
    """A choice of conf/protocol for a model of the config ``trained``.

    Windows whose size is left open become as large as the crop it was trained with, in place.

    Raises:
        ConfigError: if a window, overlap or scale makes no sense.
    """
    if OmegaConf.select(protocol, "windows.window", default=0) is None:
        protocol.windows.window = trained.recipe.augmentation.crop
    try:
        return instantiate({name: value for name, value in protocol.items() if name != "name"})
    except InstantiationException as error:
        raise ConfigError(f"protocol={protocol.name} cannot be used: {error.__cause__ or error}.") from error


def build_model(config: DictConfig, classes: int, weights: str = "random") -> Segmenter:
    """Fill the model's five slots with the chosen options.

    Args:
        config: with ``technique``, ``backbone``, ``decoder`` and ``seed``.
        classes: number of classes.
        weights: what the encoder starts from, see `exfuse.models.weights.load_backbone_weights`.

    Raises:
        ConfigError: if a choice cannot be built.
        CheckpointError: if the weights do not fit.
    """
    options = {name: instantiate(option) for name, option in config.technique.items()}
    model = build_segmenter(
        backbone=backbone_factory(config, config.backbone.output_stride),
        decoder=instantiate(config.decoder),
        options=options,
        classes=classes,
        seed=config.seed,
    )
    accelerate(model)
    if weights != "random":
        _load_encoder(model.encoder, weights)
    return model


def _load_encoder(encoder: nn.Module, weights: str) -> None:
    backbone = encoder.get_submodule("backbone")
    assert isinstance(backbone, Backbone)
    branches = load_backbone_weights(backbone, weights)
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


def build_task(config: DictConfig, model: Segmenter, classes: Sequence[str], val_images: int) -> SegmentationTask:
    """The LightningModule around a model.

    Args:
        config: with ``recipe`` and ``runtime``.
        model: of as many classes as are named.
        classes: their names.
        val_images: how many images a whole validation counts.
    """
    recipe = config.recipe
    return SegmentationTask(
        model,
        classes,
        optimizer=instantiate(recipe.optimizer),
        schedule=instantiate(recipe.schedule),
        lr=recipe.lr,
        encoder_lr_factor=recipe.encoder_lr_factor,
        weight_decay=recipe.weight_decay,
        val_images=val_images,
        description={"config": describe_run(config), "classes": list(classes)},
        channels_last=config.runtime.channels_last,
    )
