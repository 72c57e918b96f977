"""``exfuse export``."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from exfuse.errors import ConfigError


def main(config: DictConfig) -> None:
    """Export a run's model.

    Raises:
        ConfigError: if an option has no usable value.
    """
    size = config.size
    if config.format not in ("onnx", "torch"):
        raise ConfigError(f"format={config.format}: expected onnx or torch.")
    if size is not None and not (
        isinstance(size, ListConfig) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise ConfigError(f"size={size}: expected [HEIGHT,WIDTH], two positive numbers of pixels, or null.")
    from exfuse.exporting.command import export

    output = Path(config.output) if config.output else None
    export(Path(config.run), config.format, tuple(size) if size else None, output)
