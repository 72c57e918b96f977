"""Score a checkpoint and write what a run's end writes."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from exfuse.analysis.console import per_class_table
from exfuse.composition.reading import plain, read_split
from exfuse.composition.segmentation import build_eval_transform, build_protocol
from exfuse.data.dataset import SegmentationDataset
from exfuse.errors import CheckpointError, ConfigError
from exfuse.files import write_json
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.device import choose_device
from exfuse.runs.outcome import save_examples, summarise, write_scores
from exfuse.store.checked import plain as as_plain
from exfuse.tasks.scoring import score
from exfuse.tracking.run_info import evaluation_info
from exfuse.tracking.showing import show_scores
from exfuse.tracking.tracker import tracked


def evaluate(config: DictConfig) -> None:
    """Score ``config.checkpoint`` on ``config.data``, by default the data it was trained with.

    Raises:
        CheckpointError: if the checkpoint cannot be used, or scores other classes than the data name.
        ConfigError: if the data config has no such split.
        DataError: see the readers.
    """
    if OmegaConf.is_missing(config, "checkpoint"):
        raise ConfigError("checkpoint is not set: add checkpoint=FOLDER with a run's folder, or a .ckpt file.")
    path = Path(config.checkpoint)
    model, trained, classes = load_checkpoint(path)
    if config.get("data") is None:
        with open_dict(config):  # a composed config knows no key that its files do not
            config.data = trained.data
    if config.split not in ("train", "val"):
        raise ConfigError(f"split={config.split}: expected train or val.")
    split = read_split(config, config.split)
    if list(split.classes) != classes:
        raise CheckpointError(
            f"{path} scores {len(classes)} classes ({', '.join(classes[:4])}, ...) but {split.name} names "
            f"{len(split.classes)} ({', '.join(split.classes[:4])}, ...). Choose the data set it was trained for."
        )
    dataset = SegmentationDataset(split, build_eval_transform(trained))
    protocol = build_protocol(config.protocol, trained)
    if trained.runtime.channels_last:  # the layout in which its training scored it
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = choose_device(config.device)
    scored = score(model, dataset, device, config.workers, protocol)
    run = path if path.is_dir() else path.parent.parent
    name = split.name.lower().replace(" ", "_")
    output = Path(config.output) if config.output else run / "evaluation" / name / config.protocol.name
    write_scores(output, scored, dataset)
    save_examples(output / "predictions.png", model, dataset, "prediction", device, decide=protocol)
    origin = {"checkpoint": str(path), "data": split.name, "manifest": split.manifest(), "protocol": plain(config.protocol)}
    scores = summarise(scored, dataset)
    write_json(output / "scores.json", origin | as_plain(scores))
    if config.get("logger") is not None:
        key = f"{run.resolve().name}-{name}-{config.protocol.name}"
        with tracked(instantiate(config.logger)(evaluation_info(output, key, run, trained, split.name)).loggers) as trackers:
            show_scores(trackers, scores, None, model, dataset, device, protocol)
    console = Console()
    title = f"{split.name}, {len(split)} images, {config.protocol.name.replace('_', ' ')}"
    console.print(per_class_table(scored.counts.sum(0), classes, title, scored.areas))
    console.print(f"Scores and examples: {output}")
