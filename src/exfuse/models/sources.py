"""Where an encoder's first weights may come from besides a store of backbones. Torch-free."""

from pathlib import Path

from exfuse.errors import ConfigError

PUBLIC = ("random", "timm", "package")


def weights_file(init: str | Path, key: str = "backbone.init") -> Path:
    """The file that ``init`` names, which is none of `PUBLIC`.

    Raises:
        ConfigError: if it is not there, naming the config key ``key``.
    """
    if not (path := Path(init)).is_file():
        raise ConfigError(
            f"{key}={path}: no such file, nor one of the choices {', '.join(PUBLIC)}. "
            "Give one of them or the path of a .safetensors or .pth state dict."
        )
    return path
