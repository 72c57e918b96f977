"""One model and recipe of a study, built from a record alone, and what it does when its turn comes."""

import statistics
from typing import Any, NamedTuple

import msgspec
import torch

from exfuse.composition.segmentation import build_model, build_task
from exfuse.errors import ConfigError, UserError
from exfuse.process import allow_tf32
from exfuse.reports.costs.training_step import TrainingStep
from exfuse.runs.costs import evaluation, time_ms
from exfuse.store.description import RunDescription, from_plain
from exfuse.store.measured_costs import cost_identity
from exfuse.store.record import Record
from exfuse.store.study import Study
from exfuse.tasks.segmentation import SegmentationTask

_WARM_UP = 1  # calls before the timed ones of each turn


class Turn(NamedTuple):
    """What one turn measured: medians of its repeats, and the peak of CUDA's allocator (0 on a CPU)."""

    latency_ms: float
    train_images_per_second: float
    peak_memory_mib: float


class Variant(msgspec.Struct, frozen=True):
    """A distinct model and recipe of a study: the rows that share it, and the record of one of its runs."""

    identity: str
    rows: list[str]
    record: Record


class Subject:
    """A variant's model with random weights. It lives on the CPU and visits the device for its turns.

    Args:
        variant: whose record says what to build.
        size: side in pixels of the image whose evaluation is timed; None for the recipe's crop.
        images: of one optimiser step; None for the recipe's batch.

    Raises:
        UserError: if this version of the code cannot build it, or builds another model.
    """

    def __init__(self, variant: Variant, size: int | None = None, images: int | None = None) -> None:
        self.variant = variant
        self.run, self.task = build_from_record(variant)
        self.size = size or self.run.recipe.augmentation.crop
        self.images = images or self.run.recipe.batch_size

    def turn(self, device: torch.device, repeats: int) -> Turn:
        """Time ``repeats`` evaluations and as many training steps on ``device``, after one of each that is not timed.

        Raises:
            UserError: if the device's memory is too small.
        """
        cuda = device.type == "cuda"
        allow_tf32(self.run.runtime.tf32)
        torch.backends.cudnn.benchmark = bool(self.run.trainer.more.get("benchmark"))
        try:
            self.task.to(device)
            call = evaluation(self.task.model, self.size)
            latency = _median_ms(call, device, repeats)
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
            step = TrainingStep(self.task, self.run, self.images)
            seconds = _median_ms(step, device, repeats) / 1e3
            peak = torch.cuda.max_memory_allocated(device) / 2**20 if cuda else 0.0
            return Turn(latency, step.images / seconds, peak)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"Row {self.variant.rows[0]} does not fit on {device} with {self.images} images a step. Choose batch_size= or "
                "device=."
            ) from error
        finally:
            self.task.zero_grad(set_to_none=True)
            self.task.to("cpu")


def find_variants(study: Study) -> tuple[list[Variant], list[str]]:
    """The distinct models of a study's finished runs, in the order of its rows, and the rows left out, with the reason."""
    found: dict[str, Variant] = {}
    left_out: list[str] = []
    for row in study.rows:
        identities = {cost_identity(record): record for record in row.records.values()}
        if len(identities) != 1:
            left_out.append(f"{row.name}: {'its runs have different models or recipes' if identities else 'no finished run'}")
            continue
        ((identity, record),) = identities.items()
        found.setdefault(identity, Variant(identity, [], record)).rows.append(row.name)
    return list(found.values()), left_out


def build_from_record(variant: Variant) -> tuple[RunDescription, SegmentationTask]:
    """What the run was, and the task as training built it, but with random weights.

    Raises:
        UserError: if this version of the code cannot build it, or builds another model.
    """
    record, row = variant.record, variant.rows[0]
    commit = record.environment.short_commit
    classes = record.classes
    try:
        run = from_plain(record.config, RunDescription)
        model = build_model(run, len(classes))
        if run.runtime.compile:
            model.compile()
        task = build_task(run, model, classes, record.images["val"])
    except (ConfigError, msgspec.ValidationError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"The model of row {row} cannot be built from its record by this version ({reason}). It was trained by commit "
            f"{commit}: measure there, or train the row anew."
        ) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters != record.parameters:
        raise UserError(
            f"Row {row} was trained with {record.parameters:,} parameters, this version builds {parameters:,} from its "
            f"config: the code has changed since commit {commit}. Measure there, or train the row anew."
        )
    return run, task


def _median_ms(call: Any, device: torch.device, repeats: int) -> float:
    taken = [time_ms(call, device) for _ in range(_WARM_UP + repeats)]
    return statistics.median(taken[_WARM_UP:])
