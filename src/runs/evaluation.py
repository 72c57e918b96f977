"""Score a checkpoint and write what a run's end writes."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from src.analysis.console import per_class_table
from src.composition.reading import read_split
from src.composition.segmentation import build_eval_transform
from src.data.dataset import SegmentationDataset
from src.errors import CheckpointError, ConfigError
from src.runs.checkpoint import load_checkpoint
from src.runs.device import choose_device
from src.runs.files import write_json
from src.runs.outcome import save_examples, summarise, write_scores
from src.tasks.scoring import score


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
        config = OmegaConf.merge(config, {"data": trained.data})  # type: ignore[assignment]
    if config.split not in ("train", "val"):
        raise ConfigError(f"split={config.split}: expected train or val.")
    split = read_split(config, config.split)
    if list(split.classes) != classes:
        raise CheckpointError(
            f"{path} scores {len(classes)} classes ({', '.join(classes[:4])}, ...) but {split.name} names "
            f"{len(split.classes)} ({', '.join(split.classes[:4])}, ...). Choose the data set it was trained for."
        )
    dataset = SegmentationDataset(split, build_eval_transform(trained))
    device = choose_device(config.device)
    per_image = score(model, dataset, device)
    run = path if path.is_dir() else path.parent.parent
    name = split.name.lower().replace(" ", "_")
    output = Path(config.output) if config.output else run / "evaluation" / name
    write_scores(output, per_image, dataset)
    save_examples(output / "predictions.png", model, dataset, "prediction", device)
    write_json(
        output / "scores.json",
        {"checkpoint": str(path), "data": split.name, "manifest": split.manifest()} | summarise(per_image, dataset),
    )
    console = Console()
    console.print(per_class_table(per_image.sum(0), classes, f"{split.name}, {len(split)} images"))
    console.print(f"Scores and examples: {output}")
