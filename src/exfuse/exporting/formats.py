"""The two kinds of exported file, and what travels inside them so that the file alone is enough to use it.

Only this file knows onnx and onnxruntime.
"""

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from exfuse.limits import Size
from exfuse.palette import class_palette
from exfuse.store.record import Record

Scoring = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # from images (B, channels, H, W) to scores (B, C, H, W)
_DESCRIPTION = "description.json"


Description = Mapping[str, str]  # an exported model's contract, see `describe_file`


def describe_file(record: Record, classes: Sequence[str], sizes: str, size: Size | None = None) -> Description:
    """What travels inside a file; every value is text, as JSON.

    ``run`` is the key of the run whose weights these are, ``label`` its variant, ``commit`` that of the code that trained it,
    null where git was not at hand; ``classes`` names the scores' channels; ``channels`` are those of the image, ``mean`` and
    ``std`` per channel, of pixels in [0, 1]; ``range``, the stored values that become 0 and 255, is null for images of 8 bits;
    ``upright`` says whether a photograph is turned first as its camera says; an image is then scaled, by ``scaling``, to
    ``size`` (height, width), or where that is null so that its longer side has ``long_side`` pixels, null leaves it as it is;
    ``palette`` is RGB of each class, 0..255, one after another, as PIL's ``putpalette`` takes them.

    Args:
        record: of the run.
        classes: names of the C classes.
        sizes: which heights and widths the file takes.
        size: the (H, W) that it takes alone; None for any.
    """
    normalisation, settings = record.config["backbone"]["normalisation"], record.config["data"]
    channels, span = len(normalisation["mean"]), settings.get("range")
    told = ", RGB" if channels == 3 else ", grey" if channels == 1 else ""
    told += f"; pixel = 255 * (stored - {span[0]:g}) / ({span[1]:g} - {span[0]:g}), cut to 0..255 and rounded" if span else ""
    found = {
        "run": record.key,
        "label": record.label,
        "commit": record.environment.commit,
        "classes": list(classes),
        "channels": channels,
        "range": list(span) if span else None,
        "mean": list(normalisation["mean"]),
        "std": list(normalisation["std"]),
        "upright": settings.get("orientation") != "stored",
        "size": size,
        "long_side": None if size else record.config["recipe"]["long_side"],
        "scaling": "bilinear, of the four nearest pixels alone: OpenCV's INTER_LINEAR; PIL's BILINEAR smooths",
        "palette": class_palette(classes)[: len(classes)].ravel().tolist(),
        "sizes": sizes,
        "input": f"image: float32 (batch, {channels}, height, width){told}; (pixel / 255 - mean) / std",
        "output": "scores: float32 (batch, classes, height, width), before softmax; a pixel's class is the argmax",
    }
    return {name: json.dumps(value) for name, value in found.items()}


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        suffix: of its name.
        needs: packages of the extra ``export``.
        write: a graph with one input, ``image``, and one output, ``scores``, and its description, to a path.
        load: a written file as a function.
    """

    suffix: str
    needs: Sequence[str]
    write: Callable[[Path, ExportedProgram, Description], None]
    load: Callable[[Path], Scoring]


def _write_onnx(path: Path, program: ExportedProgram, description: Description) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own deprecations inside its exporter
        written = torch.onnx.export(
            program, dynamo=True, input_names=["image"], output_names=["scores"], verbose=False, optimize=True
        )
    assert written is not None
    written.model.metadata_props.update(description)
    written.save(path)


def _load_onnx(path: Path) -> Scoring:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["scores"], {"image": image})[0]


def _write_torch(path: Path, program: ExportedProgram, description: Description) -> None:
    packed = io.BytesIO()  # torch's own writer of files ends the process where the disk is full
    torch.export.save(program, packed, extra_files={_DESCRIPTION: json.dumps(description)})
    path.write_bytes(packed.getbuffer())


def _load_torch(path: Path) -> Scoring:
    graph = torch.export.load(path).module()
    return lambda image: graph(torch.from_numpy(image)).detach().numpy()


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "onnxscript"), _write_onnx, _load_onnx),
    "torch": Format(".pt2", (), _write_torch, _load_torch),
}
