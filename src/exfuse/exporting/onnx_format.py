"""ONNX files: written, described and run; the only file that knows onnx and onnxruntime."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from exfuse.errors import UserError
from exfuse.exporting.description import Description

SUFFIX = ".onnx"


def require() -> None:
    """Refuse where the packages are missing.

    Raises:
        UserError: naming the extra to install.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"--format onnx needs the package {error.name}: pip install -e '.[export]'.") from error


def write(path: Path, program: ExportedProgram, description: Description) -> None:
    """Write a graph with one input, ``image``, and one output, ``scores``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own deprecations inside its exporter
        written = torch.onnx.export(
            program, dynamo=True, input_names=["image"], output_names=["scores"], verbose=False, optimize=True
        )
    assert written is not None
    written.model.metadata_props.update(description.as_text())
    written.save(path)


def load(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A written file as a function from images (B, 3, H, W) to scores (B, C, H, W), run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["scores"], {"image": image})[0]
