"""The models and recipes of a study, built from records alone, taking turns to be timed, and weighed each by itself."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import torch

from exfuse.composition.segmentation import build_model, build_task
from exfuse.config import search_path
from exfuse.devices import training_formats
from exfuse.errors import CheckpointError, ConfigError, UserError
from exfuse.memory import keep_freed_memory
from exfuse.models.backbone import image_channels
from exfuse.process import answer_request, in_own_process
from exfuse.runs.costs import evaluation, resident_mib
from exfuse.runs.step import TrainingStep
from exfuse.store.costs import Quartiles, RowCosts
from exfuse.store.description import RunDescription, from_plain
from exfuse.store.measured_costs import cost_identity
from exfuse.store.record import Record
from exfuse.store.study import Study
from exfuse.tasks.layout import is_faster_in_channels_last, is_worth_measuring
from exfuse.tasks.segmentation import SegmentationTask
from exfuse.timing import median_ms

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
        torch.backends.cudnn.benchmark = bool(self.run.trainer.more.get("benchmark"))
        try:
            self.task.to(device)
            self._choose_layout(device)
            call = evaluation(self.task.model, self.size)
            (latency,) = median_ms([call], repeats, _WARM_UP, device)
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
            step = TrainingStep(self.task, self.run, self.images)
            with training_formats(self.run.runtime.tf32):
                (milliseconds,) = median_ms([step], repeats, _WARM_UP, device)
            peak = torch.cuda.max_memory_allocated(device) / 2**20 if cuda else 0.0
            return Turn(latency, 1e3 * step.images / milliseconds, peak)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"Row {self.variant.rows[0]} does not fit on {device} with {self.images} images a step. Choose batch_size= or "
                "device=."
            ) from error
        finally:
            self.task.zero_grad(set_to_none=True)
            self.task.to("cpu")

    def _choose_layout(self, device: torch.device) -> None:
        """Once, where the run leaves it open: as a training would on ``device``."""
        open_layout, self.task.open_layout = self.task.open_layout, False
        if open_layout and not self.run.trainer.deterministic and is_worth_measuring(self.task, device):
            with training_formats(self.run.runtime.tf32):
                step = TrainingStep(self.task, self.run, self.images)
                self.task.use_layout(is_faster_in_channels_last(step, self.task.use_layout, device))

    def summarise(self, turns: Sequence[Turn], peak: float) -> RowCosts:
        """What all turns say together; ``peak`` is that of memory in MiB."""
        crop, channels = self.run.recipe.augmentation.crop, image_channels(self.task.model)
        return RowCosts(
            rows=self.variant.rows,
            identity=self.variant.identity,
            input=[1, channels, self.size, self.size],
            batch=[self.images, channels, crop, crop],
            precision=self.run.trainer.precision,
            layout="channels_last" if self.task.memory_format is torch.channels_last else "contiguous",
            latency_ms=quartiles([turn.latency_ms for turn in turns]),
            train_images_per_second=quartiles([turn.train_images_per_second for turn in turns]),
            peak_memory_mib=peak,
        )


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Quartiles(median, low, high)


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
    except (ConfigError, CheckpointError) as error:
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


class TakesTurns(Protocol):
    """What `take_rounds` needs of a subject."""

    def turn(self, device: torch.device, repeats: int) -> Turn: ...


def take_rounds(
    subjects: Sequence[TakesTurns], rounds: int, repeats: int, device: torch.device, advance: Callable[[], object]
) -> list[list[Turn]]:
    """The turns of each subject, one a round; a round before the first warms all of them up and is not kept.

    Args:
        subjects: all of them take a turn in each round, in this order.
        rounds: that are kept.
        repeats: timings of a turn.
        device: to measure on.
        advance: called after each turn.
    """
    kept: list[list[Turn]] = [[] for _ in subjects]
    for number in range(1 + rounds):
        for subject, turns in zip(subjects, kept, strict=True):
            turn = subject.turn(device, repeats)
            if number:
                turns.append(turn)
            advance()
    return kept


# Peak memory of training on a CPU: a process's peak never sinks, so one process weighs one model.
#
# See `exfuse.process.in_own_process`.

_STEPS = 3  # the first makes the optimiser's state, the others hold it
_MODULE = "exfuse.reports.costs.turns"


def peak_mib(variant: Variant, images: int, threads: int) -> float:
    """MiB that a process which trains this variant holds at most, torch included.

    Args:
        variant: to build.
        images: of one optimiser step.
        threads: of torch.

    Raises:
        UserError: if that process fails, as for want of memory.
    """
    folders = [*map(str, search_path.added_folders())]
    asked = {"variant": variant, "images": images, "threads": threads, "folders": folders}
    advice = "Choose batch_size= if memory was short."
    return float(in_own_process(_MODULE, asked, f"weigh row {variant.rows[0]}", advice))


def weigh(variant: Variant, images: int, threads: int) -> float:
    """What `peak_mib` does, in this process."""
    torch.set_num_threads(threads)
    keep_freed_memory()  # as in training
    run, task = build_from_record(variant)
    step = TrainingStep(task, run, images)
    for _ in range(_STEPS):
        step()
    return resident_mib()


def _weigh(asked: dict[str, Any]) -> float:
    search_path.use(asked["folders"])
    return weigh(msgspec.convert(asked["variant"], Variant), asked["images"], asked["threads"])


if __name__ == "__main__":
    answer_request(_weigh)
