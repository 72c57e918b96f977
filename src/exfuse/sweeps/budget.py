"""What a study would cost on a device, estimated before anything is trained and without the data at hand."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from msgspec.structs import replace

from exfuse.analysis.power import Trained
from exfuse.composition.precision import resolve_precision
from exfuse.composition.pretraining import build_classifier_model, from_random
from exfuse.composition.reading import bands_of, labelled_counts, number_of_classes, split_of
from exfuse.composition.segmentation import build_model
from exfuse.config.overrides import describe_run
from exfuse.models.backbone import image_channels
from exfuse.runs.micro_batch import in_parts
from exfuse.runs.peak import pretraining_peak, resident_peak, segmentation_peak
from exfuse.runs.plan import PRETRAINED, images_at_once
from exfuse.store.description import RunDescription, encode_option, is_supervised, to_plain
from exfuse.store.key import backbone_key
from exfuse.sweeps.declared import compose_study, declared_name
from exfuse.sweeps.sequential import before_first_look
from exfuse.sweeps.stages import Plan
from exfuse.sweeps.step_cost import CPU_THREADS, FLOAT32, GPU, Device, StepCost, count_step, element_size
from exfuse.sweeps.supervisor import row_name
from exfuse.tasks.classification import classification_losses
from exfuse.tasks.segmentation import training_loss

_COUNTED = 2  # images in the batch whose operations are counted: batch norms want more than one


@dataclass
class Training:
    """One line of a budget: the pretraining of a backbone, or a row of a study.

    Attributes:
        name: of the backbone or row.
        images: that pass through one run over all its epochs.
        cost: of its training step.
        parameters: while training.
        peak: bytes that its training takes, see `Budget.on_cpu`.
        runs: how many there are; a row has one a seed.
        rate: images a second of the steps of the fastest run that was trained; None where there is none.
    """

    name: str
    images: int
    cost: StepCost
    parameters: int
    peak: int
    runs: int = 0
    rate: float | None = None

    def hours(self, device: Device) -> float:
        """Of all its runs, one after the other."""
        return self.runs * self.images * self.cost.seconds(device) / 3600

    @property
    def hours_taken(self) -> float | None:
        """Of all its runs, had each the `rate`."""
        return self.runs * self.images / self.rate / 3600 if self.rate else None


@dataclass
class Budget:
    """What all runs with one encoder cost on one kind of device.

    Attributes:
        backbone: its option.
        data: name of the data set.
        recipe: what it trains by, in words.
        device: that trains it.
        on_cpu: whether that is a CPU; peaks are then a process's resident set, as records have it, else of a GPU's allocator.
        pretrainings: by name; rows and seeds share them.
        rows: of the study or multirun.
        grows: how many seeds of each row are counted, and up to how many a sequential study may go; None for others.
    """

    backbone: str
    data: str
    recipe: str
    device: Device = GPU
    on_cpu: bool = False
    pretrainings: dict[str, Training] = field(default_factory=dict)
    rows: dict[str, Training] = field(default_factory=dict)
    grows: tuple[int, int] | None = None

    def trainings(self) -> list[Training]:
        return [*self.pretrainings.values(), *self.rows.values()]

    def hours(self) -> float:
        """Of everything, one run after the other."""
        return sum(training.hours(self.device) for training in self.trainings())


def plan_budget(
    typed: Sequence[str],
    progress: Callable[[int, int], None],
    rates: Mapping[Trained, float] | None = None,
    **sustained: Any,
) -> list[Budget]:
    """Compose every job of a study or multirun and count the operations and the memory of its training step.

    Args:
        typed: overrides as ``exfuse train`` takes them, swept ones included.
        progress: told how many jobs of how many are counted.
        rates: images a second of runs that were trained, see `exfuse.analysis.power.read_rates`.
        sustained: what `GPU` and `CPU_THREADS` are not to have of `Device`. ``trainer.precision=auto`` is float32 with an
            ``element`` of 4 bytes, bfloat16 with 2; without any what it is on a CPU, and bfloat16 on a GPU.

    Returns:
        One budget a backbone, data set and device, number formats told apart, in the order of the jobs.

    Raises:
        ConfigError: if a model cannot be built, or an override is none.
        HydraException: if a job does not compose.
        DataError: if a config does not say how many images there are, and the data are not there either.
    """
    budgets: dict[tuple[str, str, Device], Budget] = {}
    counted: dict[str, tuple[StepCost, int, int]] = {}
    known: set[str] = set()  # keys of backbones
    planned: dict[str, Training] = {}  # by what is alike for backbones of every seed
    labelled: dict[str, tuple[int, int]] = {}  # by what says which images a pretraining learns from
    seeds: set[int] = set()
    study, jobs = compose_study(typed)
    runs, seed = len(jobs), describe_run(jobs[0]).seed
    if (search := Plan(jobs, study.tune, seed, describe_run).search) is not None:
        jobs = [*jobs, *search.jobs()]
    for number, job in enumerate(jobs):
        progress(number, len(jobs))
        run = describe_run(job)
        on_cpu = run.trainer.accelerator == "cpu"
        run = _in_format(run, on_cpu, sustained.get("element"))
        element = element_size(run.trainer.precision)
        device = (CPU_THREADS[element] if on_cpu else GPU._replace(element=element))._replace(**sustained)
        if isinstance(images := run.runtime.micro_batch, int):
            run = in_parts(run, images)
        recipe, at_once = f"{run.choices['recipe']}, {run.recipe.epochs} epochs", images_at_once(run, run.recipe.batch_size)
        recipe += f", crops of {run.recipe.augmentation.crop} px, {at_once} at once"
        backbone = run.encoder
        data = str(run.data.settings["name"])
        budget = budgets.setdefault((backbone, data, device), Budget(backbone, data, recipe, device, on_cpu))
        if run.backbone.init == PRETRAINED and run.init_from is None:
            # the data need not be there: their config stands for them
            made_of = str(encode_option(run.pretraining.data))
            if "${data." in made_of:  # cut out of what the run learns from
                made_of += f"{encode_option(run.data)} {run.held_out}"
            key = backbone_key(run, {"start": "", "data": made_of})
            if key not in known:
                known.add(key)
                images_of = f"{made_of} {run.debug.images}"
                if images_of not in labelled:
                    labelled[images_of] = labelled_counts(run)
                alike = replace(run, pretraining=replace(run.pretraining, seed=0))
                unseeded = backbone_key(alike, {"start": "", "data": made_of})
                if unseeded not in planned:
                    planned[unseeded] = _plan_pretraining(run, *labelled[images_of])
                made = dataclasses.replace(planned[unseeded])
                budget.pretrainings.setdefault(f"{made.name} {made.images}", made).runs += 1
        model = _what_counts(run)
        if model not in counted:
            counted[model] = _count_segmentation(run)
        images, row = (
            (run.stop.epochs or run.recipe.epochs) * _train_images(run),
            declared_name(study.rows, run.choices, row_name(run)),
        )
        if run.stop.steps:
            images = min(images, run.stop.steps * run.recipe.batch_size)
        training = Training(f"{row}{', search' if run.held_out.share else ''}", images, *counted[model])
        kind = Trained(row, backbone, run.recipe.augmentation.crop, run.trainer.precision, on_cpu)
        training.rate = (rates or {}).get(kind)
        seeds |= {run.seed} if number < runs else set()
        budget.rows.setdefault(f"{training.name} {images} {model}", training).runs += 1
    assert run.sweep is not None
    if run.sweep.until:
        before_first_look(seeds, run.sweep)
        for budget in budgets.values():
            budget.grows = (len(seeds), run.sweep.most.seeds)
    progress(len(jobs), len(jobs))
    return list(budgets.values())


def _in_format(run: RunDescription, on_cpu: bool, element: int | None) -> RunDescription:
    if run.trainer.precision != "auto":
        return run
    if element is None and on_cpu:
        return resolve_precision(run)
    return replace(run, trainer=replace(run.trainer, precision="32-true" if element == FLOAT32 else "bf16-mixed"))


def _plan_pretraining(run: RunDescription, images: int, classes: int) -> Training:
    techniques = [*(["SS"] if is_supervised(run) else []), *(["LR"] if "lr" in run.technique else [])]
    epochs, data = run.pretraining.recipe.epochs, run.pretraining.data
    name = f"backbone {'+'.join(techniques) or 'plain'}, {data.settings.get('name', data.name)}, {epochs} epochs"
    return Training(name, epochs * images, *_count_pretraining(run, classes))


def _what_counts(run: RunDescription) -> str:
    """What decides the operations and the memory of a step."""
    plain, recipe, trainer = to_plain(run), run.recipe, run.trainer
    parts = [plain[name] for name in ("technique", "decoder", "backbone", "loss")]
    parts += [recipe.augmentation.crop, recipe.batch_size, recipe.optimizer.name, recipe.ema_decay is None]
    parts += [trainer.precision, trainer.accumulate_grad_batches, trainer.devices, trainer.num_nodes, run.runtime.composed]
    return json.dumps([*parts, number_of_classes(run), bands_of(run.data).channels], sort_keys=True)


def _count_segmentation(run: RunDescription) -> tuple[StepCost, int, int]:
    model = build_model(run, number_of_classes(run)).to("meta").train()
    side = run.recipe.augmentation.crop
    image = torch.empty(_COUNTED, image_channels(model), side, side, device="meta")
    truth = torch.empty(_COUNTED, side, side, dtype=torch.uint8, device="meta")
    cost = count_step(lambda: training_loss(model(image), truth, model.auxiliary_weights)[0], _COUNTED)
    parameters = sum(weight.numel() for weight in model.parameters())
    peak = segmentation_peak(run, model, number_of_classes(run), images_at_once(run, run.recipe.batch_size))
    return cost, parameters, _of_process(run, peak)


def _count_pretraining(run: RunDescription, classes: int) -> tuple[StepCost, int, int]:
    model = build_classifier_model(from_random(run), classes).to("meta").train()
    side = run.pretraining.recipe.augmentation.size
    image = torch.empty(_COUNTED, 3, side, side, device="meta")
    target = torch.empty(_COUNTED, dtype=torch.int64, device="meta")
    cost = count_step(lambda: torch.stack([*classification_losses(model(image), target, 0.0).values()]).sum(), _COUNTED)
    parameters = sum(weight.numel() for weight in model.parameters())
    peak = pretraining_peak(run, model, classes, images_at_once(run, run.pretraining.recipe.batch_size))
    return cost, parameters, _of_process(run, peak)


def _of_process(run: RunDescription, peak: int) -> int:
    return resident_peak(peak) if run.trainer.accelerator == "cpu" else peak


def _train_images(run: RunDescription) -> int:
    """That it learns from, as the config counts them, whether or not the data are there; else as they are read."""
    settings = run.data.settings
    counts = {name: count for name, count in (settings.get("counts") or {}).items() if name != "val"}
    united = "parts" in settings["train"]
    if len(counts) == 1 and not united:
        total = round(int(*counts.values()) * (1 - run.held_out.share))
    else:
        total = len(split_of(run, "train"))
    return round(total * (1 - run.stop.share)) if run.stop.patience else total
