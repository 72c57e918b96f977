"""Which device to use outside of training, where Lightning chooses."""

import torch

from exfuse.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU if there is one.

    Raises:
        ConfigError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no CUDA GPU here. Choose device=cpu.")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name}: expected auto, cpu or cuda.") from error
