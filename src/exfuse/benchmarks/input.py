"""Input at the speed of GPUs: what a core reads, decodes and augments for 512 px, against what a GPU is assumed to eat."""

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.utilities import move_data_to_device
from torch.utils.data import default_collate

from exfuse.benchmarks.models import forward_gflops
from exfuse.benchmarks.report import Measurement, hold, table_of_shares
from exfuse.benchmarks.variants import build_variant
from exfuse.data.device_augmentation import DeviceTransform, collate
from exfuse.data.scenes import generate_scenes
from exfuse.data.scenes_objects import CLASSES
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.transforms import TrainTransform
from exfuse.data.voc import read_voc
from exfuse.timing import median_ms

_IMAGES, _SIDE, _CROP = 24, 500, 512  # as large as VOC's
_BATCH, _REPEATS = 16, 5
_PEAK, _SHARE, _PASSES = 989e3, 0.4, 3  # GFLOP/s of one H100 in bfloat16, how much of it a training reaches, backward counted
_GPUS, _CORES = 8, 64
_OUGHT = ">= 1.00"
_LOADER, _DEVICE = ("augmentation", "batching and transfer"), ("cutting", "transfer of cuts")


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """Images a second of one core, and of all stages together against a core's share of eight GPUs."""
    torch.set_num_threads(1)
    progress("what a GPU is assumed to eat")
    model, scale = build_variant("GCN baseline", device, "resnet50"), (_CROP / 256) ** 2
    eaten = _PEAK * _SHARE / (_PASSES * scale * forward_gflops(model, device))
    assumed = f"assumed of one H100: {_SHARE:.0%} of {_PEAK / 1e3:.0f} TFLOP/s in the GCN baseline with ResNet50 at {_CROP} px"
    with tempfile.TemporaryDirectory() as scratch:
        progress("drawing scenes")
        root = generate_scenes(Path(scratch) / "scenes", _IMAGES, 1, _SIDE, 0)
        split, mean = read_voc(root, "train", CLASSES), (0.45, 0.45, 0.45)
        recipe = (_CROP, None, (0.5, 2.0), 0.5, 0.3, mean, (0.2, 0.2, 0.2))  # recipe=voc
        transform, on_device = TrainTransform(*recipe), DeviceTransform(*recipe)
        dataset, places = SegmentationDataset(split, transform), count()
        prepared = [(image, mask) for image, mask in map(dataset.samples.read, range(_IMAGES))]
        samples = [dataset[0, place % _IMAGES] for place in range(_BATCH)]
        cuts = [on_device.cut(*prepared[place % _IMAGES], place, place) for place in range(_BATCH)]

        def each(work: Callable[[int], object]) -> Callable[[], object]:
            return lambda: [work(next(places) % _IMAGES) for _ in range(_IMAGES)]

        def transfer(collated: Callable[[Any], Any], samples: list[Any]) -> None:
            moved = move_data_to_device(collated(samples), torch.device(device))
            if device == "cpu":  # a copy in memory in the place of one to a GPU
                apply_to_collection(moved, torch.Tensor, torch.clone)

        stages: dict[str, Callable[[], object]] = {
            "reading and decoding": each(dataset.samples.read),
            "augmentation": each(lambda place: transform.augment(*prepared[place], next(places))),
            "batching and transfer": partial(transfer, default_collate, samples),
            "cutting": each(lambda place: on_device.cut(*prepared[place], next(places), place)),
            "transfer of cuts": partial(transfer, collate, cuts),
        }
        progress("decoding, augmentation and transfer")
        times = median_ms([*stages.values()], _REPEATS, 1, "cpu")
    taken = {name: time / (_BATCH if "transfer" in name else _IMAGES) for name, time in zip(stages, times, strict=True)}  # ms
    share = eaten * _GPUS / _CORES
    spent = table_of_shares([(time, name) for name, time in taken.items()], "an image on one core")
    where = f"{_SIDE} px JPEGs, {_CROP} px crops; {assumed}: {eaten:,.0f} images/s"

    def against(what: str, ms: float, target: str) -> Measurement:
        item = f"{what}: images/s of one core / its share of {_GPUS} GPUs on {_CORES} cores"
        return hold(item, 1e3 / ms, share, "images/s", target, where, profile=lambda: spent)

    return [
        *(against(name, time, "") for name, time in taken.items()),
        *(
            against(f"{what}{whose}", sum(taken[stage] for stage in stages), _OUGHT)
            for whose, own in (("", _LOADER), (", runtime.augment=device", _DEVICE))
            for what, stages in (("all input", ("reading and decoding", *own)), ("input from runtime.cache=auto", own))
        ),
    ]
