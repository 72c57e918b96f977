"""The models that benchmarks compare, built without configs, and one training step of each."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from exfuse.fusing.training import accelerate
from exfuse.models.backbone import Backbone
from exfuse.models.decoder import Decoder
from exfuse.models.segmenter import Prediction, Segmenter, build_segmenter
from exfuse.tasks.segmentation import segmentation_loss, training_loss
from exfuse.techniques.adjacent_prediction import AdjacentPrediction, LastBlockPrediction, PlainPrediction
from exfuse.techniques.channel_resolution import deconvolution, subpixel
from exfuse.techniques.embedding_branch import NoEmbedding, ProductEmbedding
from exfuse.techniques.layer_rearrangement import standard
from exfuse.techniques.semantic_supervision import StageTails

CLASSES = 21
FORMATS = {"float32": False, "bfloat16": True}  # name: under autocast to bfloat16

_BASELINE: dict[str, Any] = {"seb": NoEmbedding, "ecre": partial(deconvolution, auxiliary_weight=0.0), "dap": PlainPrediction}
_EXFUSE: dict[str, Any] = {"seb": ProductEmbedding, "ecre": partial(subpixel, auxiliary_weight=0.4)}
VARIANTS: dict[str, dict[str, Any]] = {
    "GCN baseline": _BASELINE,
    "ExFuse, DAP last": {**_EXFUSE, "dap": LastBlockPrediction},
    "ExFuse, DAP wide": {**_EXFUSE, "dap": AdjacentPrediction},
}


def build_variant(
    variant: str, device: str, backbone: str = "resnet50", checkpoint_activations: bool = False, fast: bool = True
) -> Segmenter:
    """A variant by its name in `VARIANTS`, with random weights, in training mode and channels_last.

    With ``fast`` it has the forms that training uses; else its layers run one after the other, as the figures draw them.
    """
    model = build_segmenter(
        backbone=partial(Backbone, name=backbone),
        decoder=partial(Decoder, levels=(2, 3, 4, 5), kernel=7, checkpoint_activations=checkpoint_activations),
        options={"lr": standard, "ss": partial(StageTails, supervised=False), **VARIANTS[variant]},
        classes=CLASSES,
        seed=0,
    )
    if fast:
        accelerate(model)
    return model.to(device).to(memory_format=torch.channels_last).train()


def batch(device: str, size: int, images: int = 2) -> tuple[Tensor, Tensor]:
    """Random images (B, 3, size, size) in channels_last and ids (B, size, size)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(images, 3, size, size, generator=generator).to(device, memory_format=torch.channels_last)
    return image, torch.randint(CLASSES, (images, size, size), generator=generator).to(device, torch.uint8)


def loss_of(prediction: Prediction | Tensor, truth: Tensor, weights: dict[str, float]) -> Tensor:
    """As `exfuse.tasks.segmentation.SegmentationTask` adds it up; other people's models return their scores alone."""
    if isinstance(prediction, Tensor):
        return segmentation_loss(prediction, truth)
    return training_loss(prediction, truth, weights)[0]


def training_step(model: nn.Module, image: Tensor, truth: Tensor, half: bool) -> None:
    """Forward, loss and backward.

    Args:
        model: whose gradients are cleared first.
        image, truth: from `batch`.
        half: autocast to bfloat16.
    """
    model.zero_grad(set_to_none=True)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=half):
        loss = loss_of(model(image), truth, getattr(model, "auxiliary_weights", {}))
    loss.backward()
