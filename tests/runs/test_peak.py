"""Peaks of memory that are told before any step, held against what torch's allocator says of two steps on this CPU."""

import pytest
import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from exfuse.composition.pretraining import build_classification_task, build_classifier_model
from exfuse.composition.segmentation import build_model, build_task
from exfuse.config.overrides import describe_backbone, describe_run
from exfuse.runs.peak import pretraining_peak, resident_peak, segmentation_peak
from exfuse.runs.step import TrainingStep
from tests.sharing import amount

CLASSES, NEAR = 11, 0.15
HALF = "trainer.precision=bf16-mixed"


def allocated(build) -> int:
    """Bytes that the CPU's allocator held at most while a step is built and taken twice, beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step = build()
        step()
        step()
    events, waiting = [], [*watched.profiler.kineto_results.experimental_event_tree()]
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == _EventType.Allocation:
            events.append((event.start_time_ns, event.extra_fields.total_allocated, event.extra_fields.alloc_size))
    _, total, size = min(events)
    return max(held for _, held, _ in events) - (total - size)


def told_and_held(overrides: str, images: int) -> tuple[int, int]:
    run = describe_run(["trainer=cpu", "backbone.init=random", "recipe.augmentation.crop=64", *overrides.split()])
    told = segmentation_peak(run, build_model(run, CLASSES), CLASSES, images)

    def build():
        task = build_task(run, build_model(run, CLASSES), [str(one) for one in range(CLASSES)], 1)
        return TrainingStep(task, run, images * run.trainer.accumulate_grad_batches)

    return told, allocated(build)


ROWS = ("baseline", "ss", "ss_lr", "ss_lr_ecre", "ss_lr_seb", "ss_lr_seb_dap", "exfuse")
USUAL = [
    ("+ablation=baseline", 4),
    (f"+ablation=exfuse {HALF}", 4),
    ("+ablation=ss_lr_seb_dap decoder.checkpoint_activations=true recipe.augmentation.crop=96", 2),
    ("+ablation=baseline loss=lovasz trainer.accumulate_grad_batches=2", 4),
]
ALL = [
    *((f"+ablation={row} {form} recipe.augmentation.crop={crop}", images)
      for row in ROWS for form in ("", HALF) for crop, images in ((64, 8), (128, 2), (192, 4))),
    *((f"+ablation={row} backbone=resnet50 recipe=voc recipe.augmentation.crop=128", 2) for row in ROWS),
    *((f"+ablation=exfuse loss={loss}", 4) for loss in ("dice", "focal", "lovasz", "ohem", "sum", "weighted")),
    ("+ablation=exfuse runtime.composed=false", 4),
    ("+ablation=exfuse_last runtime.channels_last=false", 4),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "images"), amount(USUAL[1:3], USUAL + ALL))
def test_the_peak_that_is_told_is_within_15_percent_of_the_allocators(overrides, images):
    told, held = told_and_held(overrides, images)
    assert told == pytest.approx(held, rel=NEAR)


def test_a_pretrainings_peak_too():
    wanted = describe_backbone(
        ["trainer=cpu", "+ablation=ss_lr", "pretraining.recipe.augmentation.size=64", "pretraining.recipe.gradient_clip=null"]
    )
    told = pretraining_peak(wanted, build_classifier_model(wanted, 5), 5, 16)

    def build():
        task = build_classification_task(wanted, build_classifier_model(wanted, 5), "abcde").train()
        task.log = task.log_dict = lambda *_, **__: None
        batch = {"image": torch.randn(16, 3, 64, 64), "label": torch.arange(16) % 5}
        optimizer = task.build_optimizer()

        def step():
            loss = task.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    assert told == pytest.approx(allocated(build), rel=NEAR)


def test_more_images_take_more_and_a_larger_batch_is_never_allocated():
    run = describe_run(["trainer=cpu", "backbone.init=random", "recipe.augmentation.crop=2048"])
    one, many = (segmentation_peak(run, build_model(run, CLASSES), CLASSES, images) for images in (1, 4096))
    assert many / one == pytest.approx(4096, rel=0.1)
    assert resident_peak(one) > one
