"""Inference: the fused model against the training graph in evaluation mode, and against what libraries' compilers make."""

import copy
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from exfuse.benchmarks.report import Measurement, hold, profile_of
from exfuse.benchmarks.variants import VARIANTS, batch, build_variant
from exfuse.fusing.fuse import fuse
from exfuse.models.segmenter import ScoresAlone, Segmenter
from exfuse.timing import median_ms

_SIZES = (256, 512)
_REPEATS = 9
_TARGET = ">= 1.30"
_EQUAL = 1e-4
_DETAILS = "batch 1, float32, channels_last, inference mode"
Run = Callable[[Tensor], object]


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """ResNet50, 21 classes, one image, float32, channels_last on both sides: times, and the largest difference of scores."""
    measurements = []
    for variant in VARIANTS:
        progress(f"{variant}: fusing")
        model = _with_statistics(build_variant(variant, device))
        fused = fuse(model)
        for size in _SIZES:
            measurements += _compare(f"{variant}, {size}x{size}", model, fused, device, size, progress)
        if variant == next(iter(VARIANTS)) and device == "cpu":
            progress(f"{variant}: ever new sizes")
            measurements.append(_new_sizes(variant, model, fused))
    return measurements


@torch.inference_mode()
def _compare(
    name: str, model: Segmenter, fused: Segmenter, device: str, size: int, progress: Callable[[str], None]
) -> list[Measurement]:
    image, _ = batch(device, size, images=1)
    expected, scores = model(image).scores, fused(image).scores
    difference = float((scores - expected).abs().max() / expected.abs().max())
    sides: dict[str, Run] = {"plain": model, "fused": fused}
    made = {}
    for compiler, make in _COMPILERS.items() if device == "cpu" else ():
        progress(f"{name}: {compiler}")
        started = time.perf_counter()
        if (compiled := make(model, image)) is not None:
            sides[compiler], made[compiler] = compiled, time.perf_counter() - started
    progress(f"{name}: {len(sides)} forms in turns")
    times = median_ms([lambda run=run: run(image) for run in sides.values()], _REPEATS, device=device)  # type: ignore[misc]
    taken = dict(zip(sides, times, strict=True))
    lines = [
        hold(
            f"inference of {name}: training graph / fused",
            taken["fused"],
            taken["plain"],
            "ms",
            _TARGET,
            _DETAILS,
            faster=True,
            profile=lambda: profile_of(lambda: fused(image)),
        ),
        hold(
            f"inference of {name}: difference of the fused scores, relative to the largest",
            difference,
            None,
            "",
            f"<= {_EQUAL:.0e}",
            _DETAILS,
        ),
    ]
    if made:
        best = min(made, key=taken.__getitem__)
        others = "; ".join(f"{one}: {taken[one]:.0f} ms, made in {seconds:.0f} s" for one, seconds in made.items())
        item = f"inference of {name}: the best of libraries' compilers ({best}) / fused"
        lines.append(hold(item, taken["fused"], taken[best], "ms", details=others, faster=True))
    return lines


def _new_sizes(name: str, model: Segmenter, fused: Segmenter) -> Measurement:
    """Each image of another height, as photographs are: what a form prepares for a size is prepared again."""
    heights = count(_SIZES[0])
    traced = _onednn(model, batch("cpu", _SIZES[0], images=1)[0])

    def all_new(run: Run) -> Callable[[], object]:
        return lambda: run(torch.zeros(1, 3, next(heights), _SIZES[0]).contiguous(memory_format=torch.channels_last))

    with torch.inference_mode():
        ours, theirs = median_ms([all_new(fused), all_new(traced)], _REPEATS)
    item = f"inference of {name} at ever new sizes: oneDNN's graph / fused"
    return hold(item, ours, theirs, "ms", details=f"{_DETAILS}; {_SIZES[0]} px wide", faster=True)


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def _inductor(model: Segmenter, image: Tensor) -> Run | None:
    if not (shutil.which("c++") or shutil.which("g++")):
        return None
    from torch._inductor import config

    torch._dynamo.reset()
    with _quietly(), config.patch(freezing=True):
        compiled = torch.compile(ScoresAlone(copy.deepcopy(model)).eval())
        compiled(image.clone())

    def run(image: Tensor) -> object:
        with torch.inference_mode(False), torch.no_grad():
            return compiled(image.clone())

    return run


def _onednn(model: Segmenter, image: Tensor) -> Run:
    """TorchScript's, which its makers call deprecated."""
    with _quietly():
        torch.jit.enable_onednn_fusion(True)
        alone = ScoresAlone(copy.deepcopy(model)).eval()
        traced = torch.jit.freeze(torch.jit.trace(alone, image.clone(), check_trace=False))
        for _ in range(2):  # it looks at the first and compiles at the second
            traced(image.clone())
    return traced


def _onnxruntime(model: Segmenter, image: Tensor) -> Run | None:
    if not (find_spec("onnxruntime") and find_spec("onnxscript")):  # an extra
        return None
    import onnxruntime

    with _quietly(), tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(ScoresAlone(fuse(model, portable=True)), (image.clone(),), path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image.contiguous().numpy()})


_COMPILERS: dict[str, Callable[[Segmenter, Tensor], Run | None]] = {
    "torch.compile with freezing": _inductor,
    "oneDNN's graph by torch.jit.freeze": _onednn,
    "onnxruntime": _onnxruntime,
}


@torch.no_grad()
def _with_statistics(model: Segmenter) -> Segmenter:
    """In evaluation mode, batch norms with the statistics of a random batch instead of their first ones."""
    model.train()(batch(next(model.parameters()).device.type, 128)[0])
    return model.eval()
