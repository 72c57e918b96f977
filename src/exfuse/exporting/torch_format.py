"""Files of torch.export: written, described and run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from exfuse.exporting.description import Description

SUFFIX = ".pt2"
DESCRIPTION = "description.json"


def require() -> None:
    """torch alone is needed."""


def write(path: Path, program: ExportedProgram, description: Description) -> None:
    """Write a graph with its description as the extra file ``description.json``."""
    torch.export.save(program, path, extra_files={DESCRIPTION: json.dumps(description.as_text())})


def load(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A written file as a function from images (B, 3, H, W) to scores (B, C, H, W)."""
    graph = torch.export.load(path).module()
    return lambda image: graph(torch.from_numpy(image)).detach().numpy()
