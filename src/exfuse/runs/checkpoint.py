"""From a checkpoint back to the model that wrote it."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from exfuse.composition.segmentation import build_model
from exfuse.errors import CheckpointError
from exfuse.models.segmenter import Segmenter

_PREFIX = "model."


def load_checkpoint(path: Path) -> tuple[Segmenter, DictConfig, list[str]]:
    """Rebuild the model of a checkpoint on the CPU. Nothing in the file is run.

    Args:
        path: a checkpoint, or a run's folder, which stands for its last one.

    Returns:
        The model in evaluation mode, the config of its run and the names of its classes.

    Raises:
        CheckpointError: if the file is missing, broken, from elsewhere, or its weights do not fit its own config.
    """
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    content = _read(path)
    config = OmegaConf.create(content["description"]["config"])
    classes = list(content["description"]["classes"])
    assert isinstance(config, DictConfig)
    model = build_model(config, len(classes))
    _load(model, content["state_dict"], path)
    return model.eval(), config, classes


def load_weights(model: Segmenter, path: Path) -> None:
    """Fill ``model`` in place with the weights and batch norm statistics of a checkpoint of the same architecture.

    Raises:
        CheckpointError: see `load_checkpoint`.
    """
    _load(model, _read(path)["state_dict"], path)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"No checkpoint {path}. Give a run's folder or one of the files in its checkpoints/.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}): it is cut short, altered or holds more than "
            "tensors and plain data. Train the run again, or copy the file anew."
        ) from error
    if not isinstance(content, dict) or not {"state_dict", "description"} <= content.keys():
        raise CheckpointError(
            f"{path} was not written by this project's training: it does not say which variant it holds. "
            "For a bare backbone's weights, use backbone.init=FILE."
        )
    return content


def _load(model: Segmenter, state_dict: dict[str, Any], path: Path) -> None:
    state = {key.removeprefix(_PREFIX): value for key, value in state_dict.items() if key.startswith(_PREFIX)}
    wanted = model.state_dict()
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    wrong += [key for key in state if key not in wanted]
    if wrong:
        raise CheckpointError(
            f"{path} holds weights of another architecture than its config describes: {len(wrong)} keys are missing, "
            f"unknown or of another shape ({', '.join(wrong[:5])}{', ...' if len(wrong) > 5 else ''}). "
            "Use the code version that wrote it (commit in environment.json), or train the run again."
        )
    model.load_state_dict(state)
