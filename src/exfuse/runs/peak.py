"""The most memory that a training step holds, known before any is taken: its tensors are torch's fake ones, without numbers."""

import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from exfuse.composition.pretraining import build_classification_task, build_classifier_model, from_random
from exfuse.composition.reading import labelled_counts, number_of_classes
from exfuse.composition.segmentation import build_model, build_task
from exfuse.models.backbone import image_channels
from exfuse.models.classifier import Classifier
from exfuse.models.segmenter import Segmenter
from exfuse.runs.plan import images_at_once
from exfuse.store.description import Described, RunDescription
from exfuse.tasks.losses import CrossEntropy
from exfuse.tasks.optimised import OptimisedTask

_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_WHOLE = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
_SIDE = 64  # of the maps on which a loss is weighed that goes by numbers
# Measured on Linux: libraries, Lightning and loaders; and what glibc holds beside what is alive, and oneDNN for itself.
_PROCESS, _HELD = 1.02 * 2**30, 1.2


def training_peak(wanted: Described, on_gpu: bool) -> int:
    """Bytes that a training takes at its peak: of a GPU's allocator, or on a CPU of the process.

    Args:
        wanted: a run, or a pretraining.
        on_gpu: whether it is a GPU that trains it.
    """
    if isinstance(wanted, RunDescription):
        classes = number_of_classes(wanted)
        model = build_model(wanted, classes).to("meta")
        peak = segmentation_peak(wanted, model, classes, images_at_once(wanted, wanted.recipe.batch_size))
    else:
        _, classes = labelled_counts(wanted)
        classifier = build_classifier_model(from_random(wanted), classes).to("meta")
        peak = pretraining_peak(wanted, classifier, classes, images_at_once(wanted, wanted.pretraining.recipe.batch_size))
    return peak if on_gpu else resident_peak(peak)


def segmentation_peak(run: RunDescription, model: Segmenter, classes: int, images: int) -> int:
    """Bytes of weights, gradients, optimiser's state, maps and what is between at the peak of a run's training step.

    That is what `torch.cuda.max_memory_allocated` and the profiler of a CPU count. Workspaces of libraries are
    left out. Every operator is taken as a CPU's is, which no GPU is needed for.

    Args:
        run: its precision resolved.
        model: of the run; on any device, ``meta`` too. It is of no use afterwards.
        classes: that it scores.
        images: that a device takes at once.
    """
    task = build_task(run, model, [str(one) for one in range(classes)], 1)
    side = run.recipe.augmentation.crop
    image, truth = (images, image_channels(model), side, side), {"mask": ((images, side, side), torch.uint8)}
    more = 0.0
    if _goes_by_numbers(task.loss, classes):
        more = (1 + len(model.auxiliary_weights)) * images * side**2 * _bytes_a_pixel(task.loss, classes)
        task.loss = CrossEntropy(())
    return _peak(run, task, image, truth, bool(run.recipe.ema_decay)) + round(more)


def pretraining_peak(wanted: Described, model: Classifier, classes: int, images: int) -> int:
    """The same of a pretraining's step; see `segmentation_peak`."""
    task = build_classification_task(wanted, model, [str(one) for one in range(classes)])
    if task.mixing is not None:
        task.mixing = lambda image, label, _: (image.clone(), label)  # as much memory, and no numbers
    recipe = wanted.pretraining.recipe
    side = recipe.augmentation.size
    return _peak(wanted, task, (images, 3, side, side), {"label": ((images,), torch.int64)}, bool(recipe.ema_decay))


def resident_peak(step: int) -> int:
    """Bytes that the process of a training holds on a CPU when its steps hold ``step`` bytes at their peak."""
    return round(_PROCESS + _HELD * step)


def _peak(
    described: Described,
    task: OptimisedTask,
    image: tuple[int, ...],
    truth: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    copied: bool,
) -> int:
    trainer = described.trainer
    half, whole = _MIXED.get(trainer.precision), _WHOLE.get(trainer.precision, torch.float32)
    task.train().to(whole)
    task.log = task.log_dict = lambda *_, **__: None  # type: ignore[assignment, method-assign]  # there is no Trainer
    with FakeTensorMode(allow_non_fake_inputs=True), _Live() as live:
        task.to_empty(device="cpu")
        weights = [weight for weight in task.parameters() if weight.requires_grad]
        live.hold([*task.parameters(), *task.buffers()])
        batch: Any = {"image": torch.empty(image, dtype=whole)}
        batch |= {name: torch.empty(shape, dtype=kind) for name, (shape, kind) in truth.items()}
        optimizer = task.build_optimizer()
        for weight in weights:
            weight.grad = torch.empty_like(weight)  # of the step before: they go when the backward pass begins
        with torch.autocast("cpu", half, enabled=half is not None):
            loss: Any = task.training_step(batch, 0)
        if trainer.accumulate_grad_batches == 1:
            optimizer.zero_grad()
        loss.backward()
        largest = max(weights, key=torch.numel)
        for weight in weights:
            if weight is not largest:
                weight.grad = None  # one shows how much state a weight has
        optimizer.step()
        state = sum(map(_bytes, optimizer.state[largest].values())) / _bytes(largest)
    return live.peak + round((state + copied) * sum(map(_bytes, weights)))


class _Live(TorchDispatchMode):
    """Bytes of the storages that are alive, each once, and the most that they came to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._storages: dict[int, weakref.ref[Any]] = {}

    def hold(self, content: Any) -> None:
        """Count the storages of all tensors in nested containers until they are gone."""
        for tensor in tree_leaves(content):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                place, size = id(storage), storage.nbytes()
                if place not in self._storages:
                    self._storages[place] = weakref.ref(storage, partial(self._forget, place, size))
                    self.now += size
                    self.peak = max(self.peak, self.now)

    def _forget(self, place: int, size: int, _: Any) -> None:
        del self._storages[place]
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        outcome = func(*args, **(kwargs or {}))
        self.hold(outcome)
        return outcome


def _bytes(value: Any) -> int:
    return value.untyped_storage().nbytes() if isinstance(value, Tensor) else 0


def _goes_by_numbers(loss: torch.nn.Module, classes: int) -> bool:
    """Whether a loss asks what numbers it is given, which nobody knows here."""
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            loss(torch.empty(1, classes, 8, 8), torch.empty(1, 8, 8, dtype=torch.uint8))
    except (DataDependentOutputException, DynamicOutputShapeException):
        return True
    return False


def _bytes_a_pixel(loss: torch.nn.Module, classes: int) -> float:
    """What a loss and its gradient hold more than the cross entropy at their peak, calculated on random scores."""
    scores = torch.randn(1, classes, _SIDE, _SIDE, requires_grad=True)
    truth = torch.randint(classes, (1, _SIDE, _SIDE), dtype=torch.uint8)
    peaks = []
    for one in (loss, CrossEntropy(())):
        with _Live() as live:
            one(scores, truth).backward()
        peaks.append(live.peak)
    return max(0, peaks[0] - peaks[1]) / _SIDE**2
