"""The arguments of a backbone: timm's own, or those of code that an option brings."""

from typing import Any

from exfuse.config import search_path
from exfuse.config.options import checked
from exfuse.config.signatures import signature
from exfuse.config.words import as_typed
from exfuse.errors import ConfigError


def read_backbone(node: dict[str, Any], group: str, option: str, written: Any) -> dict[str, Any]:
    """A backbone's settings with its arguments checked, and without its code, which is that of its option's file."""
    file = search_path.read_whole(group, option)
    if (typed := node.pop("_target_", None)) != file.get("_target_"):
        raise ConfigError(f"backbone._target_={typed}: {group}={option} is {file.get('_target_')}, as its file says.")
    if not isinstance(arguments := node.get("arguments") or {}, dict):
        raise ConfigError(f"backbone.arguments={as_typed(arguments)}: expected keys with values, or null.")
    return {**node, "arguments": check_backbone(arguments, option, node.get("name"), written)}


def own_backbone(option: str | None, name: Any) -> str:
    """The code that a file of the group ``backbone`` brings for the backbone of its own name; empty for a model of timm's."""
    known = option is not None and option == name and search_path.find(f"backbone/{option}") is not None
    return str(search_path.read_whole("backbone", str(option)).get("_target_") or "") if known else ""


def check_backbone(arguments: Any, option: str | None, name: Any, written: Any = None) -> Any:
    """Refuse further arguments of a timm model by which timm would load a file, or which are decided here, and of other code
    those that it does not take.

    Args:
        arguments: of the model.
        option: of the config group.
        name: of the model.
        written: see `exfuse.config.options.checked`.

    Returns:
        The arguments, each of the kind that code of one's own takes.

    Raises:
        ConfigError: naming the argument.
    """
    if target := own_backbone(option, name):
        key, code = "backbone.arguments", {"_target_": target}
        file = code | (search_path.read_whole("backbone", str(option)).get("arguments") or {})
        return checked(key, code | (arguments or {}), file, (key, "backbone", str(option)), written)
    ours = {*signature("timm.create_model").arguments, "features_only", "out_indices", "output_stride", "in_chans"}
    if wrong := sorted(ours & {*(arguments or {})}):
        raise ConfigError(
            f"backbone.arguments.{wrong[0]}: this is decided here. Choose the model by backbone.name, its weights by "
            "backbone.init and its stride by backbone.output_stride; arguments are for the model's own, such as layers."
        )
    return arguments
