"""Checkpoints: written whole and sealed or not at all, and read back into the model that wrote them."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import msgspec
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from safetensors.torch import load_file

from exfuse.composition.segmentation import build_model
from exfuse.errors import CheckpointError, UserError, some
from exfuse.models.segmenter import Segmenter
from exfuse.models.weights import non_finite
from exfuse.runs.asked import warn_of_code
from exfuse.store.description import RunDescription, from_plain
from exfuse.store.folder import RunFolder
from exfuse.store.published import WEIGHTS, is_published, read_published
from exfuse.store.seal import check_sealed, last_of, write_sealed
from exfuse.techniques.embedding_branch import FusingEmbedding, take_unscaled

_PREFIX = "model."
_SCALED = 2  # version of the numbers since which SEB's kernels are scaled; checkpoints of the first name none


class SealedCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin: what an interrupted run goes on from is sealed and checked, see `exfuse.store.seal`.

    Lightning's own way copies from another file system, which a kill can cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, *_: Any, **__: Any) -> None:
        write_sealed(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        return _read(Path(path))


def load_checkpoint(path: Path) -> tuple[Segmenter, RunDescription, list[str]]:
    """Rebuild the model of a checkpoint on the CPU. Nothing in the file is run.

    Args:
        path: a checkpoint, a run's folder, which stands for its last one, or the folder of a published model.

    Returns:
        The model in evaluation mode, the description of its run and the names of its classes.

    Raises:
        CheckpointError: if the file is missing, broken, from elsewhere, or its weights do not fit its own config.
    """
    if is_published(path):
        content = _read_published(path)
    else:
        path = last_of(path)
        content = _read(path)
    try:
        classes = msgspec.convert(content["description"]["classes"], list[str])
        run = from_plain(content["description"]["config"], RunDescription, path)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise CheckpointError(f"{path} does not say of which run it is ({type(error).__name__}: {error}).") from error
    try:
        model = build_model(run, len(classes))
    except UserError:
        raise
    except Exception as error:  # what no config says may fail anywhere in a model's making
        raise CheckpointError(f"{path} describes a model that cannot be built ({type(error).__name__}: {error}).") from error
    _load(model, content, path)
    if content["description"].get("channels_last", run.runtime.channels_last):  # the layout in which its training scored it
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval(), run, classes


def load_weights(model: Segmenter, path: Path) -> None:
    """Fill ``model`` in place with the weights and batch norm statistics of a checkpoint of the same architecture.

    Raises:
        CheckpointError: see `load_checkpoint`.
    """
    _load(model, _read(path), path)


def _read(path: Path) -> dict[str, Any]:
    check_sealed(path)
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


def _read_published(folder: Path) -> dict[str, Any]:
    """As `_read`; its weights are the ones that its description knows by their hash."""
    about = read_published(folder)
    try:
        state = load_file(folder / WEIGHTS)
    except Exception as error:  # the reader's own exception types are not exported
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read as weights ({type(error).__name__}).") from error
    description = {name: getattr(about, name) for name in ("config", "classes", "numbers_version", "channels_last", "code")}
    return {"state_dict": {f"{_PREFIX}{key}": value for key, value in state.items()}, "description": description}


def _load(model: Segmenter, content: dict[str, Any], path: Path) -> None:
    state = {key.removeprefix(_PREFIX): value for key, value in content["state_dict"].items() if key.startswith(_PREFIX)}
    if content["description"].get("numbers_version", 1) < _SCALED:
        for name, module in model.named_modules():
            if isinstance(module, FusingEmbedding):
                take_unscaled(module, state, f"{name}.")
    wanted = model.state_dict()
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    wrong += [key for key in state if key not in wanted]
    if wrong:
        raise CheckpointError(
            f"{path} holds weights of another architecture than its config describes: {len(wrong)} keys are missing, "
            f"unknown or of another shape ({some(wrong, 5)}). "
            "Use the version of exfuse that wrote it, or train the run again."
        )
    if name := non_finite(state):
        raise CheckpointError(f"{path}: {name} holds numbers that are not finite. Copy the file anew, or train the run again.")
    model.load_state_dict(state)
    record = RunFolder.of(path).record()  # alone tells it of checkpoints that earlier versions wrote
    code = content["description"].get("code") or (record.environment.code if record else {})
    warn_of_code(code, f"{record.title}, seed {record.seed}," if record else str(path))
