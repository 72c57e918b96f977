"""What `exfuse runs log` does: tell a tracker of runs that have ended."""

from pathlib import Path

from exfuse.composition.reading import split_scored_on
from exfuse.composition.segmentation import build_eval_transform
from exfuse.config.options import build
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.subsets import spread_evenly
from exfuse.devices import choose_device
from exfuse.errors import ConfigError, UsageError, UserError
from exfuse.limits import Device
from exfuse.runs.asked import scored
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.checked import plain
from exfuse.store.description import Option
from exfuse.store.folder import RunFolder
from exfuse.store.history import merge_logs
from exfuse.store.record import Record
from exfuse.tasks.prediction import PredictedImage, predict_split
from exfuse.terminal import Console
from exfuse.tracking.run_info import run_info
from exfuse.tracking.showing import show_accuracy, show_outcome
from exfuse.tracking.tracker import Tracker, tracked, trackers_of


def log_runs(runs: list[str], device: Device, logger: Option | None = None) -> None:
    """Tell of each finished run its curves, scores, costs and pictures, as if it had been told while it trained.

    Args:
        runs: folders of runs, or of stores of runs.
        device: that pictures are predicted on.
        logger: who is told.

    Raises:
        UsageError: if nobody is named.
        ConfigError: if it tells nobody.
        UserError: if a folder holds no finished run.
        UserError: if a tracker was not reached.
        DataError: if pictures are wanted and a run's data are not there.
    """
    if logger is None:
        raise UsageError("tracker is not set: who is told? tracker=wandb, tensorboard, mlflow or several.")
    console, lost = Console(), list[str]()
    for folder in scored(runs):
        record = folder.finished()
        assert record is not None
        stage = "pretrain" if record.scored is None else "train"
        loggers = build("logger", logger)(run_info(folder.path, record.key, stage, record, None)).loggers
        told = trackers_of(loggers)
        if not told:
            raise ConfigError(
                f"tracker={logger.name} is of the run's folder alone. Choose wandb, tensorboard, mlflow or several."
            )
        most = max(tracker.examples for tracker in told)
        examples = _examples(folder, record, most, device) if most and record.scored is not None else []
        with tracked(loggers) as trackers:
            _tell(trackers, folder, record, examples)
        named = f"{record.title}, seed {record.seed}"
        if any(tracker.failed for tracker in told):
            lost.append(f"{named} ({record.key})")
        else:
            console.print(f"{named}: {logger.name} has it.", soft_wrap=True, highlight=False)
    if lost:
        raise UserError(
            f"{logger.name} was not told all of {', '.join(lost)}, for what is said above. Mend that, and tell it again."
        )


def _tell(trackers: list[Tracker], folder: RunFolder, record: Record, examples: list[PredictedImage]) -> None:
    for step, values in merge_logs(folder.path).items():
        for tracker in trackers:
            tracker.log(values, step)
    if record.scored is not None:
        show_outcome(trackers, record.scores, record.costs, examples)
    elif record.backbone is not None:
        show_accuracy(trackers, record.backbone.accuracy, plain(record.costs) if record.costs else {})


def _examples(folder: RunFolder, record: Record, number: int, device: Device) -> list[PredictedImage]:
    model, trained, _ = load_checkpoint(Path(folder.path))
    try:
        split = split_scored_on(trained, record.manifests["val"], folder.path)
    except UserError as error:
        raise type(error)(f"{error} Without pictures the data are not needed: tracker.examples=0.") from error
    dataset, where = SegmentationDataset(split, build_eval_transform(trained)), choose_device(device)
    return list(predict_split(model.to(where), dataset, spread_evenly(len(dataset), number), where))
