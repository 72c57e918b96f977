"""From a description to the live objects of backbone pretraining."""

from collections.abc import Sequence
from functools import partial

from msgspec.structs import asdict, replace

from exfuse.composition.common import backbone_factory, learning, loading, normalisation
from exfuse.composition.reading import technique_option
from exfuse.data.classification import (
    BatchMixing,
    ClassificationData,
    ClassificationEvalTransform,
    ClassificationTrainTransform,
)
from exfuse.data.labelled import LabelledSplit
from exfuse.models.classifier import Classifier, build_classifier
from exfuse.models.weights import load_backbone_weights
from exfuse.randomness import all_seeded, derive_seed
from exfuse.store.description import D, Described, is_supervised
from exfuse.tasks.classification import ClassificationTask
from exfuse.techniques.semantic_supervision import SemanticBranches


def build_classifier_model(described: Described, classes: int) -> Classifier:
    """The classifier with its first weights: ``pretraining.start`` or random ones.

    Raises:
        ConfigError: if a choice cannot be built.
        CheckpointError: if the weights to start from do not fit.
    """
    pretraining = described.pretraining
    sizes = {name: value for name, value in asdict(pretraining.branches).items() if name != "weights"}
    branches = partial(SemanticBranches, **sizes) if is_supervised(described) else None
    with all_seeded(derive_seed(pretraining.seed, "weights", "backbone")):
        backbone = backbone_factory(described, output_stride=32)(rearrange=technique_option(described.technique, "lr"))
    model = build_classifier(backbone, branches, classes, pretraining.seed)
    load_backbone_weights(model.backbone, pretraining.start, key="pretraining.start")
    return model


def from_random(described: D) -> D:
    """The same pretraining from random weights, which costs the same and needs no file."""
    return replace(described, pretraining=replace(described.pretraining, start="random"))


def build_classification_data(described: Described, train: LabelledSplit, val: LabelledSplit) -> ClassificationData:
    """Loaders over two splits as the pretraining's recipe wants them."""
    recipe, scaling = described.pretraining.recipe, normalisation(described)
    return ClassificationData(
        train,
        val,
        ClassificationTrainTransform(**asdict(recipe.augmentation), **scaling),
        ClassificationEvalTransform(**asdict(recipe.evaluation), **scaling),
        loading(described, recipe.batch_size, described.pretraining.seed),
    )


def build_classification_task(described: Described, model: Classifier, classes: Sequence[str]) -> ClassificationTask:
    """The LightningModule around a classifier of the classes of these names."""
    recipe = described.pretraining.recipe
    mixing = None
    if recipe.mixing.mixup or recipe.mixing.cutmix:
        mixing = BatchMixing(recipe.mixing.mixup, recipe.mixing.cutmix, recipe.label_smoothing, len(classes))
    return ClassificationTask(
        model,
        classes,
        learning(described, recipe, classes),
        branch_weights=described.pretraining.branches.weights,
        smoothing=recipe.label_smoothing,
        mixing=mixing,
        seed=described.pretraining.seed,
    )
