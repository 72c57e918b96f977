"""Trained models scored: on any data by any protocol, or anew after a measure was mended."""

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from exfuse.analysis.console import per_class_table
from exfuse.composition.reading import bands_of, read_split, split_of, split_scored_on
from exfuse.composition.segmentation import build_eval_transform, build_protocol, open_windows
from exfuse.config.options import build
from exfuse.config.own_code import changed_code, code_of_options
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.split import Split
from exfuse.devices import choose_device
from exfuse.errors import CheckpointError, UserError, classes_text, complain, first_line, plural
from exfuse.files import decoded, folder_name, outputs, write_json
from exfuse.limits import Device, Workers
from exfuse.runs.asked import scored, scores_of
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.environment import describe_environment
from exfuse.runs.outcome import report_outcome, save_examples, total_scores, write_scores
from exfuse.runs.start import seen_images
from exfuse.store.checked import plain
from exfuse.store.description import Option, RunDescription
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from exfuse.tasks.scoring import score_images
from exfuse.terminal import Console
from exfuse.tracking.run_info import evaluation_info
from exfuse.tracking.showing import show_scores
from exfuse.tracking.tracker import tracked


def evaluate(
    checkpoint: str,
    protocol: Option,
    split: Literal["train", "val"],
    device: Device,
    workers: Workers,
    data: Option | None = None,
    logger: Option | None = None,
    output: str | None = None,
) -> None:
    """Score a checkpoint and write what a run's end writes.

    Args:
        checkpoint: a run's folder or a .ckpt file.
        protocol: scales, mirror images and windows.
        split: of the data.
        device, workers: where and how it is scored, which changes no score.
        data: to score on; None for what the run was trained with.
        logger: who else is told; None for nobody.
        output: folder for the scores; None for one beside the run.

    Raises:
        CheckpointError: if the checkpoint cannot be used, or scores other classes than the data name.
        DataError: see the readers.
        UserError: if a score would take the place of what was not written here.
    """
    path = Path(checkpoint)
    model, trained, classes = load_checkpoint(path)
    scored_on = read_split(data, split) if data else split_of(trained, split)
    if list(scored_on.classes) != classes:
        raise CheckpointError(
            f"{path} scores {classes_text(classes)} but {scored_on.name} names {classes_text(scored_on.classes)}. Choose the "
            "data set it was trained for."
        )
    dataset = SegmentationDataset(scored_on, build_eval_transform(trained))
    decide = build_protocol(protocol, trained)
    if data is not None:
        _say_what_was_seen(trained, scored_on)
        _say_what_is_read_otherwise(trained, data)
    elif (record := RunFolder.of(path).record()) and record.manifests.get(split) not in (None, scored_on.manifest()):
        was = "scored on" if split == "val" else "trained on"
        complain(f"{scored_on.name} is not what run {record.key} was {was}: images or masks have changed since.", "Warning")
    where = choose_device(device)
    run = RunFolder.of(path).path
    name = folder_name(scored_on.name)
    chosen = {"name": protocol.name, **open_windows(protocol, trained).settings}
    origin = {"checkpoint": str(path), "data": scored_on.name, "manifest": scored_on.manifest(), "protocol": chosen}
    if code := code_of_options([("protocol", protocol.name)]):
        origin["code"] = code
    folder = Path(output) if output else _place(run / "evaluation" / name / protocol.name, origin)
    of = f"run {RunFolder.identity_of(path)} on {scored_on.name} ({scored_on.manifest()[:8]}) by {chosen}{code or ''}"
    with (
        outputs(scores_of(folder), of=[of] * len(scores_of(folder))) if output else nullcontext()
    ):  # what lies in a run's folder is written here
        counted = score_images(model, dataset, where, workers, decide)
        write_scores(folder, counted, dataset)
        save_examples(folder / "predictions.png", model, dataset, "prediction", where, decide=decide)
        scores = total_scores(counted, dataset)
        write_json(folder / "scores.json", origin | plain(scores))
    if logger is not None:
        info = evaluation_info(
            folder, f"{run.name}-{name}-{protocol.name if output else folder.name}", run, trained, scored_on.name
        )
        with tracked(build("logger", logger)(info).loggers) as trackers:
            show_scores(trackers, scores, None, model, dataset, where, decide)
    console = Console()
    title = f"{scored_on.name}, {plural(len(scored_on), 'image')}, {protocol.name.replace('_', ' ')}"
    console.print(per_class_table(counted.counts.sum(0), classes, title, counted.areas))
    console.print(f"Scores and examples: {folder}")


def _say_what_was_seen(trained: RunDescription, split: Split) -> None:
    try:
        shared = seen_images(trained, [split])
    except UserError as error:
        complain(f"nobody has checked that {split.name} took no part in this model's training: {first_line(error)}.", "Warning")
        return
    if shared:
        complain(f"the model has learnt from {plural(len(shared), 'image')} of {split.name}, e.g. {shared[0]}.", "Warning")


def _say_what_is_read_otherwise(trained: RunDescription, data: Option) -> None:
    ours, theirs = bands_of(data), bands_of(trained.data)
    if ours.range != theirs.range:
        ranges = [f"[{bands.range[0]:g},{bands.range[1]:g}]" if bands.range else "null" for bands in (ours, theirs)]
        complain(f"data.range={ranges[0]}, and the model was trained with {ranges[1]}: values mean something else.", "Warning")


def _place(folder: Path, origin: Mapping[str, Any]) -> Path:
    """The folder, or where other images, settings or weights were scored there already, one beside it named by these."""

    def told(content: Mapping[str, Any]) -> bytes:
        file = Path(str(content.get("checkpoint")))
        named = {key: content.get(key) for key in origin} | {"checkpoint": file.name if file.suffix == ".ckpt" else "last.ckpt"}
        return msgspec.json.encode(named, order="sorted")

    there, here = decoded(folder / "scores.json", dict[str, Any]), told(origin)
    if there is None or told(there) == here:
        return folder
    return folder.with_name(f"{folder.name}-{hashlib.sha256(here).hexdigest()[:8]}")


def rescore(runs: list[str], device: Device, workers: Workers) -> None:
    """Replace counts, areas near borders, scores and record of each run; the record says under ``scored_by`` with what.

    Args:
        runs: folders of runs, or of stores of runs.
        device: where to score.
        workers: loader processes.

    Raises:
        UserError: if a folder holds no finished run.
        DataError: if a run's val split is another than the one it was scored on.
    """
    console = Console()
    found, where = scored(runs), choose_device(device)
    for number, run in enumerate(found, 1):
        changed = _rescore(run, where, workers)
        console.print(f"{number} of {len(found)}: {run.path}: {changed}", soft_wrap=True)


def _rescore(run: RunFolder, device: torch.device, workers: Workers) -> str:
    with run.locked():
        record = run.finished()
        assert record is not None
        if changed := changed_code(record.environment.code):
            raise UserError(f"{run.path}: {changed} it was trained, and would be scored as another model. Put it back first.")
        before = _counts(run, record)
        model, trained, _ = load_checkpoint(run.path)
        split = split_scored_on(trained, record.manifests["val"], run.path)
        origin = replace(record, scored_by=describe_environment(device, code=record.environment.code))
        dataset = SegmentationDataset(split, build_eval_transform(trained))
        record = report_outcome(run, origin, model, dataset, device, workers)
        if before is None:
            return f"{100 * record.scores.miou:.2f} % mIoU; what was counted before could not be read"
        pixels = int(np.abs(run.counts(record)[0] - before).sum()) // 2
    return f"{100 * record.scores.miou:.2f} % mIoU, {pixels or 'no'} pixels decided otherwise than before"


def _counts(run: RunFolder, record: Record) -> NDArray[np.int64] | None:
    """Of before; None where a rescoring was ended before it wrote its record, or they are damaged: scoring anew mends that."""
    try:
        return run.counts(record)[0]
    except UserError:
        return None
