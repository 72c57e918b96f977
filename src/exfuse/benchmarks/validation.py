"""What scoring costs beside the forward pass: counting, areas near borders, reading, and whether batches would pay."""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from exfuse.benchmarks.measurement import Measurement, alternate
from exfuse.composition.segmentation import build_eval_transform, build_model
from exfuse.config.overrides import describe_run
from exfuse.data.scenes import read_scenes
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.split import Split
from exfuse.metrics.boundary import count_areas, find_edges
from exfuse.models.segmenter import Segmenter
from exfuse.runs.backbones import resolve_normalisation
from exfuse.store.description import RunDescription
from exfuse.tasks.confusion import confusion_counts, plain_confusion_counts
from exfuse.tasks.scoring import score
from exfuse.tasks.segmentation import predict_ids

_TARGET = 0.02  # of the forward pass
_CLASSES = 21
_SIZE = (375, 500)  # the commonest of VOC's
_IMAGES = 8
_BATCH = 4
_ENCODERS = {"tiny": "resnet_tiny", "ResNet50": "resnet50"}


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """Counts against the forward pass, whole scorings against bare decisions, and batches against single images."""
    found = []
    for name, backbone in _ENCODERS.items():
        run = resolve_normalisation(describe_run([f"backbone={backbone}", "backbone.init=random", "trainer=cpu"]))
        model = build_model(run, _CLASSES).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        where = f"GCN baseline, {name}, {_CLASSES} classes, {_SIZE[0]}x{_SIZE[1]}, float32"
        progress(f"confusion counts beside the forward pass, {name}")
        found += _counting(model, name, where, device)
        progress(f"batches of {_BATCH} beside single images, {name}")
        found.append(_batches(model, name, where, device))
        progress(f"scoring {_IMAGES} images, {name}")
        found.append(_scoring(model, name, run, device))
    return found


@torch.inference_mode()
def _counting(model: Segmenter, name: str, where: str, device: str) -> list[Measurement]:
    image = _image(1, device)
    truth = _mask()
    on_device = torch.from_numpy(truth).to(device)[None]
    ids = predict_ids(model, image, _SIZE)
    predicted, edges = ids[0].byte().cpu().numpy(), find_edges(truth)
    forward, counts, plain, areas, preparing = alternate(
        [
            lambda: model(image),
            lambda: confusion_counts(ids, on_device, _CLASSES),
            lambda: plain_confusion_counts(ids, on_device, _CLASSES),
            lambda: count_areas(predicted, truth, edges, _CLASSES),
            lambda: find_edges(truth),
        ],
        repeats=9,
        device=device,
    )
    costs = {
        "confusion counts": (counts, f"<= {_TARGET}", f"; the plain form takes {plain:.2f} ms"),
        "areas near borders": (areas, "", f"; the final score alone, on the CPU; its loaders take {preparing:.1f} ms a mask"),
    }
    return [
        Measurement(
            item=f"{what} against the forward pass, {name}",
            ours=taken,
            reference=forward,
            unit="ms",
            ratio=taken / forward,
            target=target,
            met=not target or taken / forward <= _TARGET,
            details=where + note,
        )
        for what, (taken, target, note) in costs.items()
    ]


@torch.inference_mode()
def _batches(model: Segmenter, name: str, where: str, device: str) -> Measurement:
    """Why images are scored one by one: what a batch would gain, and whether it gives the same bits."""
    images = _image(_BATCH, device)
    singles = [image[None] for image in images]
    together, apart = alternate([lambda: model(images), lambda: [model(image) for image in singles]], 3, 1, device)
    single = torch.cat([model(image).scores for image in singles])
    same = torch.equal(model(images).scores, single)
    return Measurement(
        item=f"batches of {_BATCH} equal images against single ones, {name}",
        ours=1e3 * _BATCH / together,
        reference=1e3 * _BATCH / apart,
        unit="images/s",
        ratio=apart / together,
        target="",
        met=True,
        details=f"{where}; scores are {'the same' if same else 'not the same'} bit for bit; scoring does not batch",
    )


def _scoring(model: Segmenter, name: str, run: RunDescription, device: str) -> Measurement:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        split = _scenes(Path(folder) / "scenes")
        dataset = SegmentationDataset(split, build_eval_transform(run))
        loaded = [(dataset[place]["image"][None].to(device), dataset[place]["mask"].shape) for place in range(len(dataset))]

        @torch.inference_mode()
        def bare() -> None:
            for image, (height, width) in loaded:
                predict_ids(model, image, (height, width)).cpu()

        rates = []
        for _ in range(3):
            rates.append(
                [len(split) / _seconds(work) for work in (lambda: score(model, dataset, torch.device(device), 2), bare)]
            )
    ours, reference = (float(np.median(side)) for side in zip(*rates, strict=True))
    return Measurement(
        item=f"scoring against bare decisions, {name}",
        ours=ours,
        reference=reference,
        unit="images/s",
        ratio=float(np.median([whole / alone for whole, alone in rates])),
        target="",
        met=True,
        details=f"{len(split)} generated scenes of {max(_SIZE)} px, {_CLASSES} classes; with the start of 2 loader workers, "
        "reading, all counts and areas near borders",
    )


def _scenes(folder: Path) -> Split:
    """Generated scenes under as many classes as VOC has."""
    split = read_scenes(folder, "val", train=0, val=_IMAGES, size=max(_SIZE), seed=0)
    unused = tuple(f"class {number}" for number in range(len(split.classes), _CLASSES))
    return replace(split, classes=split.classes + unused)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _image(number: int, device: str) -> Tensor:
    image = torch.randn(number, 3, *_SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    return image.contiguous(memory_format=torch.channels_last)


def _mask() -> np.ndarray:
    """Two objects with void contours, as VOC draws them."""
    mask = np.zeros(_SIZE, np.uint8)
    for top, left, height, width, label in ((60, 80, 180, 150, 8), (150, 260, 160, 200, 12)):
        mask[top - 3 : top + height + 3, left - 3 : left + width + 3] = 255
        mask[top : top + height, left : left + width] = label
    return mask
