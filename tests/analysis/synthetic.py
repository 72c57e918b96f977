"""Study folders without a training: records of made-up confusion counts, written as runs write theirs."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfuse.files import sha256
from exfuse.metrics.boundary_areas import RADII, BoundaryAreas
from exfuse.metrics.iou import Areas, iou_per_class, mean_iou, pixel_accuracy
from exfuse.store.checked import write_sealed_json
from exfuse.store.folder import BOUNDARY, COUNTS, RunFolder
from tests.records import leave_record

CLASSES = ("background", "boat", "cart", "absent_thing")
IMAGES = 12
BASELINE = {"ss": "none", "lr": "standard", "ecre": "deconv", "seb": "none", "dap": "none"}
CONFIG: dict[str, Any] = {
    "technique": {},
    "decoder": {"levels": [2, 3, 4, 5], "kernel": 7},
    "backbone": {"name": "resnet18", "init": "pretrained", "missing": "make", "output_stride": 32, "arguments": {}},
    "data": {"name": "generated scenes", "root": "/somewhere", "seed": 0},
    "recipe": {
        "optimizer": {"_target_": "torch.optim.AdamW"},
        "lr": 0.003,
        "epochs": 12,
        "batch_size": 8,
        "val_every": 5,
        "augmentation": {"crop": 128},
    },
    "trainer": {"precision": "32-true", "devices": 1, "num_nodes": 1, "sync_batchnorm": False},
    "pretraining": {"seed": 0, "recipe": {"epochs": 12}, "data": {"train": {"of": {"root": "/somewhere"}}}},
    "runtime": {"workers": 2, "threads": None, "compile": False},
    "debug": {"images": None, "val_is_train": False},
    "paths": {"runs": "/somewhere"},
    "seed": 0,
}


def make_counts(quality: float, seed: int, images: int = IMAGES, classes: int = len(CLASSES)) -> NDArray[np.int32]:
    """Counts (images, C, C) of predictions that are right for about ``quality`` of the pixels; the last class never occurs."""
    pixels = np.random.default_rng(99).integers(50, 400, (images, classes)) * (np.arange(classes) < classes - 1)
    noise = np.random.default_rng(seed)
    counts = np.zeros((images, classes, classes), np.int32)
    for image in range(images):
        for true in range(classes - 1):
            share = np.full(classes, (1 - quality) / (classes - 1))
            share[true] = quality
            counts[image, true] = noise.multinomial(pixels[image, true], noise.dirichlet(60 * share))
    return counts


def make_areas(quality: float, seed: int, images: int = IMAGES, classes: int = len(CLASSES)) -> BoundaryAreas:
    """Areas of predictions that are right for about ``quality`` of the pixels, ever less the nearer to a border."""
    rings = len(RADII) + 1
    parts = [make_counts(quality * (0.6 + 0.4 * ring / rings), 100 * seed + ring, images, classes) for ring in range(rings + 1)]
    return BoundaryAreas(RADII, Areas(*(np.stack(areas, 1) for areas in zip(*map(Areas.of_counts, parts), strict=True))))


class StudyBuilder:
    """Writes ``folder`` row by row; `finish` writes study.json."""

    def __init__(self, folder: Path, **content: Any) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.content: dict[str, Any] = {
            "schema": 1,
            "name": folder.name,
            "title": "Table 3: techniques one by one",
            "question": "What is each technique worth?",
            "command": "python -m src.train +study=table3_techniques",
            "paper": None,
            "factors": None,
            "mixed": False,
        } | content

    def row(
        self,
        name: str,
        quality: float,
        seeds: Sequence[int] = (0, 1, 2),
        options: Mapping[str, str] | None = None,
        on: str | None = None,
        paper: float | None = None,
        status: Mapping[int, str] | None = None,
        change: Callable[[dict[str, Any]], object] | None = None,
        decoder: str = "levels_2345",
        areas: Sequence[int] = (),
        counts: Callable[[float, int], NDArray[np.int32]] = make_counts,
    ) -> list[RunFolder]:
        """Add a row and the records of its runs.

        Args:
            status: by seed, of the runs that did not finish; "missing" writes no record.
            change: alters the record's content before it is written.
            areas: seeds whose runs keep their areas near borders.
            counts: of a run, by its quality and seed.
        """
        chosen = BASELINE | dict(options or {})
        runs = {seed: f"{len(self.rows):08x}{seed:08x}" for seed in seeds}
        self.rows.append(
            {"name": name, "options": chosen, "decoder": decoder, "on": on, "paper": paper}
            | {"paper_trust": None if paper is None else "P", "runs": {str(seed): key for seed, key in runs.items()}}
        )
        folders = []
        for seed, key in runs.items():
            state = (status or {}).get(seed, "done")
            folder = RunFolder(self.folder / "records", key)
            folders.append(folder)
            if state != "missing":
                near = make_areas(quality, seed) if seed in areas else None
                made = counts(quality, seed)
                write_run(folder, chosen, decoder, quality, seed, state, len(self.rows), change, made, areas=near)
        return folders

    def finish(self) -> Path:
        """Write study.json and return the folder."""
        write_sealed_json(self.folder / "study.json", self.content | {"rows": self.rows})
        return self.folder


def write_run(
    folder: RunFolder,
    options: Mapping[str, str],
    decoder: str,
    quality: float,
    seed: int,
    status: str = "done",
    place: int = 0,
    change: Callable[[dict[str, Any]], object] | None = None,
    counts: NDArray[np.int32] | None = None,
    classes: Sequence[str] = CLASSES,
    areas: BoundaryAreas | None = None,
) -> None:
    """Write one run's record and, if it is done, its counts and areas."""
    used = [name for name, option in options.items() if option != BASELINE[name]]
    config = copy.deepcopy(CONFIG) | {"seed": seed, "technique": {name: {"_target_": options[name]} for name in options}}
    config["pretraining"]["seed"] = seed
    content: dict[str, Any] = {
        "label": "+".join(used) or "baseline",
        "choices": {f"technique/{name}": option for name, option in options.items()}
        | {"decoder": decoder, "data": "scenes", "backbone": "resnet_tiny", "recipe": "scenes", "pretraining": "object_crops"},
        "seed": seed,
        "weights": f"pretrained on objects of generated scenes, plain, accuracy {60 + seed}.0 %, /somewhere/{folder.key}",
        "manifests": {"train": "a" * 64, "val": "b" * 64, "backbone": f"{seed:016x}"},
        "images": {"train": 40, "val": IMAGES},
        "config": config,
        "environment": {
            "packages": {"torch": "2.14.1", "numpy": "2.4.6"},
            "device": "one CPU",
            "threads": 1,
            "commit": "c" * 40,
            "uncommitted_changes": False,
        },
    }
    if status == "done":
        per_image = make_counts(quality, seed, classes=len(classes)) if counts is None else counts
        folder.path.mkdir(parents=True)
        ids = np.array([f"image{number:04d}" for number in range(len(per_image))])
        np.savez_compressed(folder.path / COUNTS, counts=per_image, ids=ids)
        content |= {
            "parameters": 800_000 + 20_000 * len(used),
            "seconds": 10.0,
            "scores": _scores(per_image.astype(np.int64), classes),
            "costs": {
                "parameters": 800_000 + 20_000 * len(used),
                "gigamacs": 1.2 + 0.1 * len(used),
                "input": [1, 3, 128, 128],
                "counter": "torch FlopCounterMode / 2: convolutions and matrix products of one forward pass",
                "train_images_per_second": 12.0 - len(used) - 0.1 * seed,
                "latency_ms": 30.0 + place,
                "peak_memory_mib": 800.0 + 10 * seed,
                "memory_of": "process (resident set)",
            },
            "confusion_sha256": sha256(folder.path / COUNTS),
        }
        if areas is not None:
            np.savez_compressed(folder.path / BOUNDARY, radii=np.array(areas.radii), ids=ids, **areas.areas._asdict())
            content["boundary_sha256"] = sha256(folder.path / BOUNDARY)
            content["scores"]["boundary"] = areas.summary()
    elif status == "failed":
        content["traceback"] = "Traceback (most recent call last):\n  somewhere\nRuntimeError: out of memory"
    if change:
        change(content)
    leave_record(folder, status, **content)


def _scores(counts: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    total = counts.sum(0)
    values = iou_per_class(total)
    return {
        "miou": float(mean_iou(total)),
        "pixel_accuracy": float(pixel_accuracy(total)),
        "iou": {name: float(value) if np.isfinite(value) else None for name, value in zip(classes, values, strict=True)},
        "images": len(counts),
        "confusion": total.tolist(),
    }


def edit_study(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change study.json in place."""
    content = json.loads((folder / "study.json").read_text())
    edit(content)
    write_sealed_json(folder / "study.json", content)
