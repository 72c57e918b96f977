"""Val images with a model's predictions, shown to a tracker while it trains."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from exfuse.data.split import spread_evenly
from exfuse.tasks.prediction import predict_split
from exfuse.tasks.segmentation import SegmentationTask
from exfuse.tracking.tracker import trackers_of


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
        positions = spread_evenly(len(dataset), self.number)
        examples = list(predict_split(module.model, dataset, positions, module.device))
        for tracker in trackers_of(trainer.loggers):
            tracker.log_examples(examples, module.classes, trainer.global_step)
