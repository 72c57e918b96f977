"""From a run's record to the info by which loggers show it: flat values that a dashboard can filter and group by."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from exfuse.store.description import RunDescription, to_plain
from exfuse.store.folder import RunFolder
from exfuse.store.record import DONE, Record
from exfuse.tracking.tracker import RunInfo


def run_info(folder: Path, key: str, stage: str, origin: Record, study: str | None) -> RunInfo:
    """The info of a run whose record begins with ``origin``: label, choices, seed and config.

    Args:
        folder: of the run.
        key: of the run or backbone.
        stage: ``train``, ``pretrain`` or ``evaluate``.
        origin: what the record holds from the start.
        study: that asked for the run, if one did.
    """
    name = f"{origin.title}, seed {origin.seed}"
    flat = flat_config(origin) | {"key": key, "stage": stage}
    if study is not None:
        flat["study"] = study
    return RunInfo(folder, key, stage, name, study, origin.label.split("+"), {**flat, "config": origin.config})


def evaluation_info(output: Path, key: str, run: Path, trained: RunDescription, data: str) -> RunInfo:
    """The info of a scoring: the trained run's, with the data that it was scored on.

    Args:
        output: folder of the scores.
        key: of the scoring.
        run: folder of the trained run, whose record names its label and choices; a bare checkpoint has but its config.
        trained: description of the run, of the checkpoint.
        data: name of the split.
    """
    folder = RunFolder.of(run)
    record, name = folder.record(), folder.key
    origin = record or Record(key=name, status=DONE, label=name, seed=trained.seed, config=to_plain(trained))
    info = run_info(output, key, "evaluate", origin, None)
    config = {**info.config, "data": data, "trained_on": info.config.get("data"), "trained_run": name}
    return replace(info, name=f"{info.name} on {data}", config=config)


def flat_config(origin: Record) -> dict[str, Any]:
    """Variant, seed, technique options, backbone, data and recipe, one plain value a key; what a run has not is left out."""
    config, choices = origin.config, origin.choices
    recipe, backbone = config.get("recipe") or {}, config["backbone"]
    found = {
        "variant": origin.label,
        "ablation": choices.get("ablation"),
        "seed": origin.seed,
        **{f"technique_{name}": option for name, option in origin.options.items()},
        "decoder": choices.get("decoder"),
        "backbone": backbone["name"],
        "backbone_weights": origin.weights_name,
        "data": choices.get("data") or (config.get("data") or {}).get("name"),
        "pretraining": choices.get("pretraining"),
        "recipe": choices.get("recipe") or choices.get("pretraining/recipe"),
        "epochs": recipe.get("epochs"),
        "batch_size": recipe.get("batch_size"),
        "learning_rate": recipe.get("lr"),
        "crop": (recipe.get("augmentation") or {}).get("crop"),
        "precision": (config.get("trainer") or {}).get("precision"),
    }
    return {name: value for name, value in found.items() if value is not None}
