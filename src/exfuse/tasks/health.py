"""Whether a training goes well: what `exfuse.store.record.Health` keeps of it."""

import math
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from exfuse.models.segmenter import Segmenter
from exfuse.palette import VOID
from exfuse.store.record import Health
from exfuse.tasks.schedule import LEAST_PEAK


class TrainingHealth(Callback):
    """Watches a whole ``fit``. Its state travels in checkpoints, so that a resumed run knows what one that never stopped knows.

    Warm-up is over at the first step after which the learning rate does not rise, once it was near what the recipe says: it
    falls in a training that ends within its warm-up, too.
    """

    def __init__(self) -> None:
        self.warm = False
        self.first: float | None = None
        self.highest: float | None = None
        self.gradients: dict[str, float] = {}
        self._rate, self._steps = 0.0, 0
        self._step = self._epoch = torch.zeros(2)  # loss times labelled pixels, and labelled pixels: sums

    def state_dict(self) -> dict[str, Any]:
        return {"warm": self.warm, "first": self.first, "highest": self.highest, "gradients": self.gradients}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def health(self, correlations: dict[str, float]) -> Health:
        """What a record keeps."""
        return Health(self.highest, self.first, self.gradients, correlations)

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._step = torch.zeros(2, dtype=torch.float64, device=task.device)
        self._epoch = self._step.clone()
        self._rate, self._steps = _rate(trainer), trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, task: pl.LightningModule, *arguments: Any) -> None:
        counted = (arguments[1]["mask"] != VOID).sum()
        logged = trainer.callback_metrics
        loss = logged.get("train/loss_cross_entropy", logged["train/loss_main"]).double()  # whatever else is minimised
        self._step = self._step + torch.stack([loss * counted, counted.double()])
        if trainer.global_step == self._steps:
            return  # a part of a step, its gradients accumulated
        rate, before = _rate(trainer), self._rate
        self._rate, self._steps = rate, trainer.global_step
        self.warm = self.warm or (rate <= before and before >= LEAST_PEAK * _rate(trainer, "initial_lr"))
        if self.first is None:
            self.first, self.gradients = self._mean(trainer, self._step), task.first_gradients  # type: ignore[assignment]
        if self.warm:
            self._epoch = self._epoch + self._step
        self._step = torch.zeros_like(self._step)

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        if self.warm:
            self.highest = max(self._mean(trainer, self._epoch), self.highest or 0.0)

    def _mean(self, trainer: pl.Trainer, sums: Tensor) -> float:
        total, counted = trainer.strategy.reduce(sums, reduce_op="sum").tolist()  # type: ignore[union-attr]
        mean = total / max(counted, 1.0)
        return mean if math.isfinite(mean) else math.inf


@torch.inference_mode()
def level_correlations(model: Segmenter, images: Iterable[Tensor]) -> dict[str, float]:
    """Pearson's correlation of the maps that enter the decoder with those that left the encoder, over all images' elements.

    Args:
        model: in evaluation mode.
        images: (3, H, W) each, on the model's device, normalised.

    Returns:
        By level, ``res2`` and so on; a level that nothing changes is left out, and so are all where nothing stands between.
        Zero where one of both is constant.
    """
    if not model.on_levels:
        return {}
    sums: dict[str, Tensor] = {}
    seen: dict[str, list[Tensor]] = {}
    first, last = (model.get_submodule(model.on_levels[place]) for place in (0, -1))
    handles = [
        first.register_forward_pre_hook(lambda _, given: seen.update(before=list(given[0]))),
        last.register_forward_hook(lambda *call: seen.update(after=list(call[-1]))),
    ]
    try:
        for image in images:
            model(image[None])
            for level, before, after in zip(model.encoder.levels, seen["before"], seen["after"], strict=True):  # type: ignore[arg-type]
                if before is not after:
                    one, other = before.double(), after.double()
                    products = (one, other, one * one, other * other, one * other, torch.ones_like(one))
                    moments = torch.stack([product.sum() for product in products])
                    sums[f"res{level}"] = sums.get(f"res{level}", torch.zeros_like(moments)) + moments
    finally:
        for handle in handles:
            handle.remove()
    return {name: _correlation(*moments.tolist()) for name, moments in sums.items()}


def _correlation(one: float, other: float, one_2: float, other_2: float, both: float, number: float) -> float:
    spread = (one_2 - one**2 / number) * (other_2 - other**2 / number)
    return (both - one * other / number) / math.sqrt(spread) if spread > 0 and math.isfinite(spread) else 0.0


def _rate(trainer: pl.Trainer, which: str = "lr") -> float:
    return float(trainer.optimizers[0].param_groups[0].get(which, 0.0))
