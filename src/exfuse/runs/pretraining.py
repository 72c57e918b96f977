"""One backbone from its description to its place in the store."""

from contextlib import nullcontext

import pytorch_lightning as pl
from msgspec.structs import replace
from pytorch_lightning.callbacks import Callback

from exfuse.analysis.console import accuracy_table
from exfuse.composition.common import normalisation
from exfuse.composition.precision import resolve_precision
from exfuse.composition.pretraining import (
    build_classification_data,
    build_classification_task,
    build_classifier_model,
    from_random,
)
from exfuse.composition.reading import labelled_counts, read_labelled_split, split_of
from exfuse.data.classification import ClassificationData
from exfuse.data.labelled import LabelledSplit, check_excludes, check_labelled
from exfuse.data.split import Split
from exfuse.errors import plural
from exfuse.files import sha256, write_atomically
from exfuse.models.weights import save_backbone_weights
from exfuse.process import is_first_process
from exfuse.runs.asked import warn_of_code
from exfuse.runs.backbones import backbone_label, resolve_normalisation
from exfuse.runs.costs import TrainingTime, count_cost
from exfuse.runs.environment import describe_environment
from exfuse.runs.fitting import build_trainer, fit, keep_code, keep_threads, prepare_process, recorded
from exfuse.runs.plan import PRETRAINED, check_batch, find_backbone
from exfuse.store.description import Normalisation, PretrainingDescription, to_plain
from exfuse.store.folder import WEIGHTS, RunFolder
from exfuse.store.record import DONE, RUNNING, BackboneRecord, Record
from exfuse.tasks.classification import ClassificationTask
from exfuse.tasks.stopping import AveragedWeights
from exfuse.terminal import Console, afterwards
from exfuse.tracking.showing import show_accuracy
from exfuse.tracking.tracker import tracked


def pretrain(wanted: PretrainingDescription) -> None:
    """Pretrain a backbone to its end, go on with an interrupted one, or show a finished one.

    A second process that needs the same backbone waits for the first and then shows what that made.

    Raises:
        UserError: for anything that the user can mend; the store then holds no record that calls itself done.
        KeyboardInterrupt: after Ctrl-C; the last finished epoch is kept.
    """
    first = is_first_process()  # further processes of a distributed run come through here too
    console = Console(quiet=not first)
    prepare_process(wanted, wanted.pretraining.seed)
    # `pretrained` is what this makes, whatever segmentation would choose
    wanted = replace(resolve_precision(wanted), backbone=replace(wanted.backbone, init=PRETRAINED))
    if wanted.cost_only:
        _print_cost(wanted, console)
        return
    check_batch(wanted, wanted.pretraining.recipe.batch_size, wanted.pretraining.recipe.augmentation.size, 32)
    folder, manifests = find_backbone(wanted)
    wanted = resolve_normalisation(wanted)
    train, val = (read_labelled_split(wanted, split) for split in ("train", "val"))
    held_out = split_of(wanted, "val")
    waiting = f"Another process is making backbone {folder.key}: waiting for it."
    with folder.locked(on_wait=lambda: console.print(waiting)) if first else nullcontext():
        if wanted.overwrite and first:
            folder.clear()
        if not wanted.overwrite and (record := folder.finished()):  # see `exfuse.runs.training.train`
            console.print(f"Backbone {folder.key} is already made (overwrite=true makes it anew).")
            warn_of_code(record.environment.code, f"{record.title}, seed {record.seed},")
            if first:
                _exclude_more(folder, record, train, held_out, console)
            _show(folder, record, console)
            return
        check_labelled(train, val)
        check_excludes(train, held_out)
        wanted = keep_threads(wanted, folder)
        origin = Record(
            key=folder.key,
            status=RUNNING,
            label=backbone_label(wanted),
            choices=wanted.choices,
            seed=wanted.pretraining.seed,
            images={"train": len(train), "val": len(val)},
            manifests=manifests,
            config=to_plain(wanted),
            pretraining=BackboneRecord(train.name, list(train.classes), excludes=[held_out.manifest()]),
            environment=keep_code(wanted, folder),
        )
        with recorded(folder, origin):
            _make(wanted, folder, origin, train, val, console)


def _make(
    wanted: PretrainingDescription,
    folder: RunFolder,
    origin: Record,
    train: LabelledSplit,
    val: LabelledSplit,
    console: Console,
) -> None:
    data = build_classification_data(wanted, train, val)
    model = build_classifier_model(wanted, len(data.classes))
    recipe = wanted.pretraining.recipe
    cost = count_cost(model, recipe.augmentation.size, recipe.epochs * (len(train) // recipe.batch_size) * recipe.batch_size)
    verb = "Going on with" if folder.last.exists() else "Pretraining"
    console.print(
        f"{verb} {wanted.encoder} ({origin.label}), seed {origin.seed}: {cost}\n"
        f"{train.name}: {plural(len(train), 'image')} of {plural(len(train.classes), 'class')}, {val.name}: {len(val)}; "
        f"starts from {wanted.pretraining.start} weights; folder {folder.path}",
        soft_wrap=True,
    )
    if wanted.runtime.compile:
        model.compile()
    task = build_classification_task(wanted, model, data.classes)
    taken = TrainingTime()
    trainer = build_trainer(wanted, folder, origin, "pretrain", monitor="val/accuracy", extra=[taken, *_averaging(wanted)])
    with tracked(trainer.loggers) as trackers:
        fit(trainer, task, data, folder, wanted.runtime.tf32)
        accuracy = _validate(trainer, task, data)
        if not trainer.is_global_zero:
            return
        # Lightning has put the task back on the CPU
        environment = describe_environment(trainer.strategy.root_device, trainer.world_size, origin.environment.code)
        scaling = Normalisation(**normalisation(wanted))
        branches = model.branches.get_submodule("convolutions").state_dict() if model.branches is not None else {}
        write_atomically(folder.path / WEIGHTS, lambda path: save_backbone_weights(path, model.backbone, scaling, branches))
        made = {"accuracy": accuracy, "gigamacs": cost.gigamacs, "precision": wanted.trainer.precision}
        record = folder.write(
            replace(
                origin,
                status=DONE,
                environment=environment,
                parameters=sum(parameter.numel() for parameter in model.parameters()),
                seconds=round(taken.seconds, 1),
                pretraining=replace(origin.backbone, sha256=sha256(folder.path / WEIGHTS), **made),
            )
        )
        costs = {"parameters": record.parameters, "gigamacs": cost.gigamacs, "seconds": record.seconds}
        with afterwards():
            show_accuracy(trackers, accuracy, costs)
            _show(folder, record, console)


def _exclude_more(folder: RunFolder, record: Record, train: LabelledSplit, held_out: Split, console: Console) -> None:
    """Check a finished backbone against the val images of another segmentation data set, and write that down."""
    if (manifest := held_out.manifest()) not in record.backbone.excludes:
        check_excludes(train, held_out)
        more = replace(record.backbone, excludes=[*record.backbone.excludes, manifest])
        folder.write(replace(record, pretraining=more))
        console.print(f"None of the images of {held_out.name} took part in it.")


def _averaging(wanted: PretrainingDescription) -> list[Callback]:
    decay = wanted.pretraining.recipe.ema_decay
    return [AveragedWeights(decay=decay)] if decay else []


def _validate(trainer: pl.Trainer, task: ClassificationTask, data: ClassificationData) -> dict[str, float]:
    """Accuracy of the last weights on the whole val split: of the head, ``main``, and of each branch."""
    (scores,) = trainer.validate(task, data, verbose=False)
    prefix = "val/accuracy_"
    return {name.removeprefix(prefix): float(value) for name, value in scores.items() if name.startswith(prefix)}


def _print_cost(wanted: PretrainingDescription, console: Console) -> None:
    recipe = wanted.pretraining.recipe
    images, classes = labelled_counts(wanted)
    model = build_classifier_model(from_random(wanted), classes)
    cost = count_cost(model, recipe.augmentation.size, recipe.epochs * images)
    console.print(f"{wanted.encoder} ({backbone_label(wanted)}): {cost}", soft_wrap=True)


def _show(folder: RunFolder, record: Record, console: Console) -> None:
    console.print(accuracy_table(record))
    console.print(f"Weights: {folder.path / WEIGHTS}", soft_wrap=True)
