"""One run from its description to its record."""

import itertools
from collections.abc import Sequence
from contextlib import nullcontext

import pytorch_lightning as pl
from msgspec.structs import replace
from pytorch_lightning.callbacks import Callback

from exfuse.composition.segmentation import build_data, build_eval_transform, build_model, build_task
from exfuse.data.census import census_lines, count_classes, group_lines, padding_lines
from exfuse.data.segmentation import SegmentationData, SegmentationDataset
from exfuse.data.subsets import seen_groups, spread_evenly
from exfuse.errors import plural
from exfuse.files import sha256
from exfuse.process import is_first_process
from exfuse.runs.backbones import ChosenWeights, choose_weights, resolve_normalisation
from exfuse.runs.checkpoint import load_weights
from exfuse.runs.costs import TrainingCosts, TrainingTime, describe_costs
from exfuse.runs.environment import describe_environment
from exfuse.runs.finished import print_outcome, show_trained
from exfuse.runs.fitting import build_trainer, fit, keep_code, keep_threads, prepare_process, recorded
from exfuse.runs.outcome import report_outcome
from exfuse.runs.plan import RunPlan, plan_run
from exfuse.runs.start import Start, check_unseen, find_start
from exfuse.store.description import NO_STOP, RunDescription, label_of, to_plain
from exfuse.store.record import RUNNING, Record, Stopped
from exfuse.tasks.health import TrainingHealth, level_correlations
from exfuse.tasks.losses import weights_of_classes
from exfuse.tasks.segmentation import SegmentationTask
from exfuse.tasks.stopping import AveragedWeights, Stopping, epochs_done
from exfuse.terminal import Console, afterwards
from exfuse.tracking.showing import show_scores
from exfuse.tracking.tracker import tracked

_MONITOR = "val/miou"
_CORRELATED = 8  # images of val on which SEB's output is compared with its input


def train(run: RunDescription) -> None:
    """Train a run to its end, go on with an interrupted one, or show a finished one.

    Raises:
        UserError: for anything that the user can mend; the folder then holds no record that calls itself done.
        KeyboardInterrupt: after Ctrl-C; the last finished epoch is kept.
    """
    first = is_first_process()  # further processes of a distributed run come through here too
    console = Console(quiet=not first)
    prepare_process(run, run.seed)
    plan = plan_run(run)
    folder, splits = plan.folder, plan.splits
    start = find_start(plan.run, splits["train"].classes)
    if start is not None and (unknown := check_unseen(start, [split for name, split in splits.items() if name != "train"])):
        console.print(unknown, soft_wrap=True, highlight=False)
    weights = choose_weights(plan.run, console) if start is None else ChosenWeights("random", None, str(start))
    plan = plan._replace(run=resolve_normalisation(plan.run if start is None else start.lend_normalisation(plan.run)))
    run = plan.run
    with folder.locked() if first else nullcontext():
        if run.overwrite and first:
            folder.clear()
        if not run.overwrite and (record := folder.finished()):  # overwritten: another process may not have cleared it yet
            show_trained(folder, record, console)
            return
        run = keep_threads(run, folder)
        plan = plan._replace(run=run)
        origin = Record(
            key=folder.key,
            status=RUNNING,
            name=run.name,
            label=label_of(run),
            choices=run.choices,
            seed=run.seed,
            weights=weights.description,
            pretrained_with=dict(weights.made_with),
            manifests=plan.manifests,
            images={name: len(split) for name, split in splits.items()},
            config=to_plain(run),
            init_from=start.describe() if start else None,
            environment=keep_code(run, folder),
            seen_groups=seen_groups(splits["train"], splits["val"]),
        )
        with recorded(folder, origin):
            costs, taken, health = TrainingCosts(run.recipe.batch_size), TrainingTime(), TrainingHealth()
            watching: list[Callback] = [costs, taken, health]
            stopping = Stopping(run.stop, _MONITOR)
            if run.stop != NO_STOP:
                watching.append(stopping)
            if run.recipe.ema_decay:
                watching.append(AveragedWeights(decay=run.recipe.ema_decay))
            task, data_module, trainer = _assemble(plan, weights, start, origin, watching)
            val = data_module.val_set
            if "stop" in splits:
                val = SegmentationDataset(splits["val"], build_eval_transform(run))
            console.print(_headline(origin, plan, task), soft_wrap=True)
            recipe = run.recipe
            crops = recipe.augmentation.crop, recipe.augmentation.scale, recipe.long_side
            lines = [*itertools.chain(*map(census_lines, splits.values())), *padding_lines(splits["train"], *crops)]
            for line in (*lines, *group_lines(splits["train"], splits["val"])):
                console.print(line, soft_wrap=True, highlight=False)
            with tracked(trainer.loggers) as trackers:
                fit(trainer, task, data_module, folder, run.runtime.tf32)
                task.model.float()  # in which it is scored, whatever it was trained in
                if trainer.is_global_zero:
                    # Lightning has put the task back on the CPU
                    environment = describe_environment(
                        trainer.strategy.root_device, trainer.world_size, origin.environment.code
                    )
                    seconds = round(taken.seconds, 1)
                    device = trainer.strategy.root_device
                    trained = replace(
                        origin,
                        environment=environment,
                        checkpoint_sha256=sha256(folder.last),
                        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
                        seconds=seconds,
                        looks=stopping.looks,
                        stopped=_stopped(trainer),
                        class_weights=dict(zip(task.classes, weights_of_classes(task.loss) or (), strict=False)),
                        costs=describe_costs(task.model.to(device), run.recipe.augmentation.crop, costs),
                    )
                    shown = (val[place]["image"].to(device) for place in spread_evenly(len(val), _CORRELATED))
                    trained = replace(trained, health=health.health(level_correlations(task.model, shown)))
                    workers = run.runtime.workers
                    record = report_outcome(folder, trained, task.model, val, device, workers)
                    with afterwards():
                        show_scores(trackers, record.scores, record.costs, task.model, val, device)
                        print_outcome(folder, record, console)


def _assemble(
    plan: RunPlan, weights: ChosenWeights, start: Start | None, origin: Record, watching: Sequence[Callback]
) -> tuple[SegmentationTask, SegmentationData, pl.Trainer]:
    run = plan.run
    data_module = build_data(run, plan.splits["train"], plan.splits.get("stop", plan.splits["val"]))
    model = build_model(run, len(data_module.classes), weights.init)
    if start is not None:
        load_weights(model, start.folder.last)
        model.pretrained.add("encoder")  # all of it was trained there, what SS keeps of its branches included
    if run.runtime.compile:
        model.compile()  # in place, so that the names in checkpoints stay as they are
    counts = count_classes(plan.splits["train"]).pixels.tolist()
    task = build_task(run, model, data_module.classes, len(data_module.val_set), counts)
    return task, data_module, build_trainer(run, plan.folder, origin, "train", monitor=_MONITOR, extra=watching)


def _stopped(trainer: pl.Trainer) -> Stopped | None:
    epochs, planned = round(epochs_done(trainer), 3), trainer.max_epochs or 0
    return Stopped(epochs, trainer.global_step, planned) if epochs < planned else None


def _headline(origin: Record, plan: RunPlan, task: SegmentationTask) -> str:
    parameters = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    verb = "Going on with" if plan.folder.last.exists() else "Training"
    train, val = plan.splits["train"], plan.splits["val"]
    batch, parts = plan.run.recipe.batch_size, plan.run.trainer.accumulate_grad_batches
    batches = f"; batches of {batch} in {parts} parts, of which batch norm sees one at a time" if parts > 1 else ""
    return (
        f"{verb} {origin.title}, seed {origin.seed}: {parameters:.2f} M parameters{batches}\n"
        f"backbone {plan.run.encoder}: {origin.weights}\n"
        f"{train.name}: {plural(len(train), 'image')}, {val.name}: {len(val)}; run folder {plan.folder.path}"
    )
