"""One run from its config to its record."""

import logging
import time
import traceback
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from src.composition import build_data, build_model, build_task, plain, read_split, set_precision
from src.data.module import SegmentationData
from src.data.split import Split, check_disjoint
from src.errors import CheckpointError
from src.runs.environment import describe_environment
from src.runs.files import sha256, write_atomically, write_json
from src.runs.folder import RunFolder
from src.runs.key import run_key
from src.runs.loggers import finish_logging
from src.runs.outcome import report_outcome, show_outcome
from src.tasks.segmentation import SegmentationTask

_PUBLIC_WEIGHTS = ("random", "timm", "package")
_USUAL_DECODER = "levels_2345"


def train(config: DictConfig, choices: Mapping[str, str]) -> None:
    """Train a run to its end, go on with an interrupted one, or show a finished one.

    Args:
        config: the composed config.
        choices: the option that was chosen in each config group.

    Raises:
        UserError: for anything that the user can mend; the folder then holds no record that calls itself done.
        KeyboardInterrupt: after Ctrl-C; the last finished epoch is kept.
    """
    first = getattr(rank_zero_only, "rank", 0) == 0  # further processes of a distributed run come through here too
    _prepare_process(config)
    splits = _read_splits(config)
    description = plain(config)
    manifests = {name: split.manifest() for name, split in splits.items()}
    if config.backbone.init not in _PUBLIC_WEIGHTS:
        manifests["backbone"] = sha256(Path(config.backbone.init))
    key = run_key(description, manifests)
    folder = RunFolder(Path(config.paths.runs), key)
    console = Console(quiet=not first)
    with folder.locked() if first else nullcontext():
        if config.overwrite and first:
            folder.clear()
        record = folder.record()
        if record and record["status"] == "done":
            console.print(f"Run {key} is already trained (overwrite=true trains it anew).")
            show_outcome(folder, record, console)
            return
        origin = {
            "label": label(choices),
            "choices": dict(choices),
            "seed": config.seed,
            "manifests": manifests,
            "config": description,
        }
        if first:
            folder.write_record("running", **origin)
            write_atomically(folder.path / "config.yaml", lambda path: OmegaConf.save(config, path, resolve=True))
        try:
            task, data_module, trainer = _assemble(config, splits, folder, origin)
            console.print(_headline(origin, folder, task, splits))
            started = time.perf_counter()
            _fit(trainer, task, data_module, folder)
            if trainer.is_global_zero:
                environment = describe_environment(task.device)
                write_json(folder.path / "environment.json", environment)
                origin |= {
                    "environment": environment,
                    "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
                    "seconds": round(time.perf_counter() - started, 1),  # of this start, without an interrupted one's
                }
                record = report_outcome(folder, origin, task.model, data_module.val_set, trainer.strategy.root_device)
                show_outcome(folder, record, console)
        except KeyboardInterrupt:
            if first:
                folder.write_record("interrupted", **origin)
            raise
        except Exception:
            if first:
                folder.write_record("failed", **origin, traceback=traceback.format_exc())
            raise


def label(choices: Mapping[str, str]) -> str:
    """A readable name of a variant: its technique options and decoder, the baseline's left out."""
    plain_options = {"none", "standard", "deconv"}
    techniques = {group.split("/")[1]: option for group, option in choices.items() if group.startswith("technique/")}
    named = [f"{name}-{option}" for name, option in techniques.items() if option not in plain_options]
    if (decoder := choices.get("decoder", _USUAL_DECODER)) != _USUAL_DECODER:
        named.append(decoder)
    return "+".join(named) or "baseline"


def _prepare_process(config: DictConfig) -> None:
    # Lightning's own news would bury ours: device tables, advertisements, advice on loaders that does not apply here.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    warnings.filterwarnings("ignore", message=r".*smaller than the logging interval")
    # Nothing should draw from the global generators; seed them all the same.
    pl.seed_everything(config.seed, verbose=False)
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.runtime.tf32
    set_precision(config)


def _read_splits(config: DictConfig) -> dict[str, Split]:
    splits = {name: read_split(config, name) for name in ("train", "val")}
    check_disjoint(splits["train"], splits["val"])
    if config.debug.images:
        splits = {name: replace(split, items=split.items[: config.debug.images]) for name, split in splits.items()}
    if config.debug.val_is_train:
        splits["val"] = splits["train"]
    return splits


def _assemble(
    config: DictConfig, splits: dict[str, Split], folder: RunFolder, origin: dict[str, Any]
) -> tuple[SegmentationTask, SegmentationData, pl.Trainer]:
    data_module = build_data(config, splits["train"], splits["val"])
    model = build_model(config, len(data_module.classes))
    if config.runtime.compile:
        model.compile()  # in place, so that the names in checkpoints stay as they are
    task = build_task(config, model, data_module)
    logger = instantiate(config.logger)(
        folder=folder.path, key=folder.key, label=origin["label"], tags=origin["label"].split("+"), config=origin["config"]
    )
    callbacks: list[Callback] = [
        LearningRateMonitor("step"),
        # What an interrupted run goes on from.
        ModelCheckpoint(
            folder.checkpoints,
            "last",
            every_n_epochs=config.runtime.checkpoint_every,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        ModelCheckpoint(folder.checkpoints, "best", monitor="val/miou", mode="max", enable_version_counter=False),
    ]
    if config.trainer.enable_progress_bar:
        callbacks.append(RichProgressBar())
    trainer = instantiate(config.trainer, logger=logger, callbacks=callbacks, default_root_dir=str(folder.path))
    return task, data_module, trainer


def _fit(trainer: pl.Trainer, task: SegmentationTask, data_module: SegmentationData, folder: RunFolder) -> None:
    if folder.last.exists() and not zipfile.is_zipfile(folder.last):
        raise CheckpointError(f"{folder.last} is cut short. Delete it, or add overwrite=true to train the run anew.")
    finished = False
    try:
        trainer.fit(task, data_module, ckpt_path=folder.last if folder.last.exists() else None, weights_only=True)
        trainer.save_checkpoint(folder.last)  # the last epoch need not be one of those that are saved
        finished = True
    except SystemExit:  # Lightning's answer to Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    finally:
        finish_logging(trainer.loggers, exit_code=0 if finished else 1)


def _headline(origin: dict[str, Any], folder: RunFolder, task: SegmentationTask, splits: dict[str, Split]) -> str:
    parameters = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    backbone = origin["config"]["backbone"]
    verb = "Going on with" if folder.last.exists() else "Training"
    return (
        f"{verb} [bold]{origin['label']}[/], seed {origin['seed']}: {parameters:.2f} M parameters, backbone "
        f"{backbone['name']} ({backbone['init']} weights)\n"
        f"{splits['train'].name}: {len(splits['train'])} images, {splits['val'].name}: {len(splits['val'])}; "
        f"run folder {folder.path}"
    )
