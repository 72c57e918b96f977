"""Val images spread evenly over a split with a model's predictions at their native size."""

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.split import read_image, read_mask
from exfuse.models.segmenter import Segmenter
from exfuse.tasks.scoring import EvaluationProtocol
from exfuse.tasks.segmentation import SegmentationTask, predict_ids
from exfuse.tracking.example import Example
from exfuse.tracking.tracker import trackers_of


@torch.inference_mode()
def predict_examples(
    model: Segmenter,
    dataset: SegmentationDataset,
    device: torch.device,
    number: int,
    decide: EvaluationProtocol = predict_ids,
) -> list[Example]:
    """Predict the same ``number`` images of a split every time, one by one.

    Args:
        model: moved to ``device`` and left in evaluation mode.
        dataset: with an `exfuse.data.transforms.EvalTransform`.
        device: where to run.
        number: how many; all of a smaller split, none for 0.
        decide: the protocol by which they are predicted.
    """
    model.to(device).eval()
    split = dataset.split
    found = []
    for position in np.unique(np.linspace(0, len(dataset) - 1, number).round().astype(int)):
        item = split.items[position]
        truth = read_mask(item.mask, len(split.classes), split.void_ids)
        ids = decide(model, dataset[int(position)]["image"][None].to(device), truth.shape)
        found.append(Example(item.id, read_image(item.image), truth, ids[0].byte().cpu().numpy()))
    return found


class ExamplePictures(Callback):
    """Show a tracker some val images with truth and prediction while a segmentation trains.

    Args:
        number: of images.
        every: validations between two showings; the final pictures come from the final weights.
    """

    def __init__(self, number: int, every: int) -> None:
        self.number, self.every = number, every

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # counted from the run's beginning, so that a resumed run shows what one that never stopped would
        validation = (trainer.current_epoch + 1) // (trainer.check_val_every_n_epoch or 1)
        if trainer.sanity_checking or validation % self.every or not trainer.is_global_zero:
            return
        assert isinstance(module, SegmentationTask)
        dataset = trainer.datamodule.val_set  # type: ignore[attr-defined]
        examples = predict_examples(module.model, dataset, module.device, self.number)
        for tracker in trackers_of(trainer.loggers):
            tracker.log_examples(examples, module.classes, trainer.global_step)
