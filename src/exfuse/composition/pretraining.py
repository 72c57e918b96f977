"""From a composed config to the live objects of backbone pretraining."""

from functools import partial
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from exfuse.composition.common import backbone_factory, cache_policy
from exfuse.composition.reading import describe_run, is_supervised, plain
from exfuse.data.classification import ClassificationData
from exfuse.data.classification_transforms import BatchMixing, ClassificationEvalTransform, ClassificationTrainTransform
from exfuse.data.labelled import LabelledSplit
from exfuse.models.classifier import Classifier, build_classifier
from exfuse.models.weights import load_backbone_weights
from exfuse.tasks.classification import ClassificationTask
from exfuse.techniques.semantic_supervision import SemanticBranches


def build_classifier_model(config: DictConfig, classes: int) -> Classifier:
    """The classifier with its first weights: ``pretraining.start`` or random ones.

    Raises:
        ConfigError: if a choice cannot be built.
        CheckpointError: if the weights to start from do not fit.
    """
    pretraining = config.pretraining
    sizes = {key: value for key, value in pretraining.branches.items() if key != "weights"}
    branches = partial(SemanticBranches, **sizes) if is_supervised(config) else None
    backbone = backbone_factory(config, output_stride=32)(rearrange=instantiate(config.technique.lr))
    model = build_classifier(backbone, branches, classes, pretraining.seed)
    load_backbone_weights(model.backbone, pretraining.start, key="pretraining.start")
    return model


def build_classification_data(config: DictConfig, train: LabelledSplit, val: LabelledSplit) -> ClassificationData:
    """Loaders over two splits as the pretraining's recipe wants them."""
    recipe = config.pretraining.recipe
    return ClassificationData(
        train,
        val,
        ClassificationTrainTransform(**recipe.augmentation, **config.backbone.normalisation),
        ClassificationEvalTransform(**recipe.evaluation, **config.backbone.normalisation),
        batch_size=recipe.batch_size,
        accumulate=config.trainer.accumulate_grad_batches,
        workers=config.runtime.workers,
        seed=config.pretraining.seed,
        cache=cache_policy(config),
        prefetch=config.runtime.prefetch,
    )


def build_classification_task(config: DictConfig, model: Classifier, data: ClassificationData) -> ClassificationTask:
    """The LightningModule around a classifier."""
    recipe, classes = config.pretraining.recipe, len(data.classes)
    mixing = None
    if recipe.mixing.mixup or recipe.mixing.cutmix:
        mixing = BatchMixing(recipe.mixing.mixup, recipe.mixing.cutmix, recipe.label_smoothing, classes)
    description: dict[str, Any] = {"config": describe_run(config), "classes": list(data.classes)}
    return ClassificationTask(
        model,
        data.classes,
        branch_weights=plain(config.pretraining.branches)["weights"],
        smoothing=recipe.label_smoothing,
        mixing=mixing,
        optimizer=instantiate(recipe.optimizer),
        schedule=instantiate(recipe.schedule),
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        description=description,
        seed=config.pretraining.seed,
        channels_last=config.runtime.channels_last,
    )
