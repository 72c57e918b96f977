"""Checkpoints that are whole or not there: Lightning's own way copies from another file system, which a kill can cut short."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from exfuse.files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin: written beside the target, then moved into its place."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, *_: Any, **__: Any) -> None:
        write_atomically(Path(path), lambda scratch: torch.save(checkpoint, scratch))
