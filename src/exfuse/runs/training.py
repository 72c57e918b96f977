"""One run from its config to its record."""

import time
from collections.abc import Mapping
from contextlib import nullcontext

import pytorch_lightning as pl
from msgspec.structs import replace
from omegaconf import DictConfig
from rich.console import Console

from exfuse.composition.reading import describe_run
from exfuse.composition.segmentation import build_data, build_model, build_task
from exfuse.data.module import SegmentationData
from exfuse.data.split import Split
from exfuse.files import sha256, write_json
from exfuse.runs.backbones import ChosenWeights, choose_weights, resolve_normalisation
from exfuse.runs.checkpoint import load_weights
from exfuse.runs.costs import TrainingCosts, describe_costs
from exfuse.runs.environment import describe_environment
from exfuse.runs.fitting import build_trainer, fit, prepare_process, recorded
from exfuse.runs.outcome import report_outcome, show_outcome
from exfuse.runs.plan import plan_run
from exfuse.runs.processes import is_first_process
from exfuse.runs.start import Start, find_start
from exfuse.store.checked import plain
from exfuse.store.folder import RunFolder
from exfuse.store.record import RUNNING, Record
from exfuse.store.variants import USUAL_DECODER, chosen_options, label
from exfuse.tasks.segmentation import SegmentationTask
from exfuse.tracking.showing import show_scores
from exfuse.tracking.tracker import tracked


def train(config: DictConfig, choices: Mapping[str, str]) -> None:
    """Train a run to its end, go on with an interrupted one, or show a finished one.

    Args:
        config: the composed config.
        choices: the option that was chosen in each config group.

    Raises:
        UserError: for anything that the user can mend; the folder then holds no record that calls itself done.
        KeyboardInterrupt: after Ctrl-C; the last finished epoch is kept.
    """
    first = is_first_process()  # further processes of a distributed run come through here too
    console = Console(quiet=not first)
    prepare_process(config, config.seed)
    folder, splits, manifests = plan_run(config)
    start = find_start(config, splits["train"].classes)
    weights = choose_weights(config, choices, console) if start is None else ChosenWeights("random", None, str(start))
    if start is not None:
        start.lend_normalisation(config)
    resolve_normalisation(config)
    with folder.locked() if first else nullcontext():
        if config.overwrite and first:
            folder.clear()
        if record := folder.finished():
            console.print(f"Run {folder.key} is already trained (overwrite=true trains it anew).")
            show_outcome(folder, record, console)
            return
        origin = Record(
            key=folder.key,
            status=RUNNING,
            label=label(chosen_options(choices), choices.get("decoder", USUAL_DECODER)),
            choices=dict(choices),
            seed=config.seed,
            weights=weights.description,
            manifests=manifests,
            images={name: len(split) for name, split in splits.items()},
            config=describe_run(config),
            init_from=start.describe() if start else None,
        )
        with recorded(folder, config, origin):
            costs = TrainingCosts(config.recipe.batch_size)
            task, data_module, trainer = _assemble(config, splits, weights, start, folder, origin, costs)
            console.print(_headline(origin, folder, task, splits), soft_wrap=True)
            with tracked(trainer.loggers) as trackers:
                started = time.perf_counter()
                fit(trainer, task, data_module, folder)
                if trainer.is_global_zero:
                    environment = describe_environment(task.device)
                    write_json(folder.path / "environment.json", plain(environment))
                    seconds = round(time.perf_counter() - started, 1)  # of this start, without an interrupted one's
                    device = trainer.strategy.root_device
                    trained = replace(
                        origin,
                        environment=environment,
                        checkpoint_sha256=sha256(folder.last),
                        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
                        seconds=seconds,
                        costs=describe_costs(task.model.to(device), config.recipe.augmentation.crop, costs),
                    )
                    workers = config.runtime.workers
                    record = report_outcome(folder, trained, task.model, data_module.val_set, device, workers)
                    show_scores(trackers, record.scores, record.costs, task.model, data_module.val_set, device)
                    show_outcome(folder, record, console)


def _assemble(
    config: DictConfig,
    splits: dict[str, Split],
    weights: ChosenWeights,
    start: Start | None,
    folder: RunFolder,
    origin: Record,
    costs: TrainingCosts,
) -> tuple[SegmentationTask, SegmentationData, pl.Trainer]:
    data_module = build_data(config, splits["train"], splits["val"])
    model = build_model(config, len(data_module.classes), weights.init)
    if start is not None:
        load_weights(model, start.folder.last)
    if config.runtime.compile:
        model.compile()  # in place, so that the names in checkpoints stay as they are
    task = build_task(config, model, data_module.classes, len(data_module.val_set))
    return task, data_module, build_trainer(config, folder, origin, "train", monitor="val/miou", extra=[costs])


def _headline(origin: Record, folder: RunFolder, task: SegmentationTask, splits: dict[str, Split]) -> str:
    parameters = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    verb = "Going on with" if folder.last.exists() else "Training"
    return (
        f"{verb} [bold]{origin.title}[/], seed {origin.seed}: {parameters:.2f} M parameters\n"
        f"backbone {origin.config['backbone']['name']}: {origin.weights}\n"
        f"{splits['train'].name}: {len(splits['train'])} images, {splits['val'].name}: {len(splits['val'])}; "
        f"run folder {folder.path}"
    )
