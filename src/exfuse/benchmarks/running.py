"""The models that benchmarks compare, built without configs, and one training step of each."""

import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from exfuse.benchmarks.report import Measurement
from exfuse.errors import UserError
from exfuse.fusing.training import accelerate
from exfuse.models.backbone import Backbone
from exfuse.models.decoder import Decoder
from exfuse.models.segmenter import Prediction, Segmenter, build_segmenter
from exfuse.process import choose_device
from exfuse.tasks.segmentation import segmentation_loss, training_loss
from exfuse.techniques.adjacent_prediction import AdjacentPrediction, LastBlockPrediction, PlainPrediction
from exfuse.techniques.channel_resolution import deconvolution, subpixel
from exfuse.techniques.embedding_branch import NoEmbedding, ProductEmbedding
from exfuse.techniques.layer_rearrangement import standard
from exfuse.techniques.semantic_supervision import StageTails

CLASSES = 21
FORMATS = {"float32": False, "bfloat16": True}  # name: under autocast to bfloat16

_BASELINE: dict[str, Any] = {"seb": NoEmbedding, "ecre": partial(deconvolution, auxiliary_weight=0.0), "dap": PlainPrediction}
_EXFUSE: dict[str, Any] = {"seb": ProductEmbedding, "ecre": partial(subpixel, auxiliary_weight=0.4)}
VARIANTS: dict[str, dict[str, Any]] = {
    "GCN baseline": _BASELINE,
    "ExFuse, DAP last": {**_EXFUSE, "dap": LastBlockPrediction},
    "ExFuse, DAP wide": {**_EXFUSE, "dap": AdjacentPrediction},
}


def build(
    variant: str, device: str, backbone: str = "resnet50", checkpoint_activations: bool = False, fast: bool = True
) -> Segmenter:
    """A variant by its name in `VARIANTS`, with random weights, in training mode and channels_last.

    With ``fast`` it has the forms that training uses; else its layers run one after the other, as the figures draw them.
    """
    model = build_segmenter(
        backbone=partial(Backbone, name=backbone),
        decoder=partial(Decoder, levels=(2, 3, 4, 5), kernel=7, checkpoint_activations=checkpoint_activations),
        options={"lr": standard, "ss": partial(StageTails, supervised=False), **VARIANTS[variant]},
        classes=CLASSES,
        seed=0,
    )
    if fast:
        accelerate(model)
    return model.to(device).to(memory_format=torch.channels_last).train()


def batch(device: str, size: int, images: int = 2) -> tuple[Tensor, Tensor]:
    """Random images (B, 3, size, size) in channels_last and ids (B, size, size)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(images, 3, size, size, generator=generator).to(device, memory_format=torch.channels_last)
    return image, torch.randint(CLASSES, (images, size, size), generator=generator).to(device, torch.uint8)


def loss_of(prediction: Prediction | Tensor, truth: Tensor, weights: dict[str, float]) -> Tensor:
    """As `exfuse.tasks.segmentation.SegmentationTask` adds it up; other people's models return their scores alone."""
    if isinstance(prediction, Tensor):
        return segmentation_loss(prediction, truth)
    return training_loss(prediction, truth, weights)[0]


def training_step(model: nn.Module, image: Tensor, truth: Tensor, half: bool) -> None:
    """Forward, loss and backward.

    Args:
        model: whose gradients are cleared first.
        image, truth: from `batch`.
        half: autocast to bfloat16.
    """
    model.zero_grad(set_to_none=True)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=half):
        loss = loss_of(model(image), truth, getattr(model, "auxiliary_weights", {}))
    loss.backward()


# Run a benchmark module in a process of its own and take its measurements.
#
# Memory and allocator state of one benchmark then say nothing about the next. The process runs this file.

_STEP, _RESULTS = "exfuse bench step: ", "exfuse bench results: "  # how these lines begin among what libraries print
_SHOWN = 15  # lines of what a failed benchmark said


class BenchmarkError(UserError):
    """A benchmark that ended without measurements."""


def run_module(module: str, device: str, threads: int, progress: Callable[[str], None]) -> list[Measurement]:
    """Measure ``module`` with ``threads`` threads of torch.

    Args:
        module: dotted name; offers ``measure(device, progress)``.
        device: cpu or cuda.
        threads: of torch on the CPU.
        progress: called with each step that the module announces.

    Raises:
        BenchmarkError: with the end of what the process said.
    """
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "exfuse.benchmarks.running", module, device]
    said: list[str] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_STEP):
                progress(line.removeprefix(_STEP).strip())
            else:
                said.append(line)
    if process.returncode or not said or not said[-1].startswith(_RESULTS):
        raise BenchmarkError(f"{module} ended with status {process.returncode}:\n{''.join(said[-_SHOWN:])}")
    return msgspec.json.decode(said[-1].removeprefix(_RESULTS), type=list[Measurement])


def _measure(module: str, device: str) -> None:
    """Print a line a step, then a module's measurements as JSON."""
    gc.set_threshold(100_000, 20, 20)  # as the command's own processes, see `exfuse.__main__`
    choose_device(device)  # sets what float32 means
    measured = importlib.import_module(module).measure(device, lambda step: print(f"{_STEP}{step}", flush=True))
    print(f"\n{_RESULTS}{msgspec.json.encode(measured).decode()}", flush=True)


if __name__ == "__main__":
    _measure(*sys.argv[1:])
