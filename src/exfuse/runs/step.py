"""One step of training without Lightning's loop, to be timed and weighed."""

import torch
from torch.nn.utils import clip_grad_norm_

from exfuse.composition.reading import bands_of
from exfuse.data.segmentation import Batch
from exfuse.errors import ConfigError
from exfuse.store.description import RunDescription
from exfuse.tasks.segmentation import SegmentationTask

_FORMATS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class TrainingStep:
    """What Lightning does between two batches, in its order: forward, then old gradients go, backward, clip, step.

    Args:
        task: on its device.
        run: whose step it is.
        images: of one step; with accumulation they come in as many parts.

    Raises:
        ConfigError: if the run's precision is none that this can imitate.
    """

    def __init__(self, task: SegmentationTask, run: RunDescription, images: int) -> None:
        trainer = run.trainer
        if trainer.precision not in _FORMATS:
            raise ConfigError(f"trainer.precision is {trainer.precision}: costs are measured for {', '.join(_FORMATS)}.")
        self.task, self.device = task.train(), task.device
        task.log = task.log_dict = lambda *_, **__: None  # type: ignore[assignment, method-assign]  # there is no Trainer
        self.half = _FORMATS[trainer.precision]
        self.parts = trainer.accumulate_grad_batches
        self.clip = trainer.gradient_clip_val
        self.optimizer = task.build_optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)
        side, channels = run.recipe.augmentation.crop, bands_of(run.data).channels
        self.batch = random_batch(max(1, images // self.parts), side, len(task.classes), self.device, channels)
        self.images = len(self.batch["image"]) * self.parts

    def __call__(self) -> None:
        for part in range(self.parts):
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                loss = self.task.training_step(self.batch, 0) / self.parts
            if part == 0:
                self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.task.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()


def random_batch(images: int, size: int, classes: int, device: torch.device, channels: int = 3) -> Batch:
    """Noise (B, channels, size, size) float32 with random ids (B, size, size) uint8, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(images, channels, size, size, generator=generator).to(device),
        "mask": torch.randint(classes, (images, size, size), generator=generator, dtype=torch.uint8).to(device),
        "position": torch.arange(images, device=device),
    }
