"""The browser of examples: each image with its truth and what every variant predicts, and how well, image by image."""

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfuse.data.subsets import spread_evenly
from exfuse.metrics.iou import iou_per_class
from exfuse.palette import VOID, class_palette, is_background, voc_palette
from exfuse.reports.page.data import PageData, Section
from exfuse.store.examples import ExampleImage, Examples, read_ids
from exfuse.store.study import Run

_AROUND = 400  # bytes of JSON around a picture, at most


def held(data: PageData, examples: Examples) -> dict[tuple[str, int], Run]:
    """By row and seed the finished runs that the examples are of."""
    return {
        (row.name, seed): run
        for row in data.study.rows
        for seed, run in row.runs.items()
        if run.done and examples.holds(run.folder.key, run.done) and run.done.manifests["val"] == examples.manifest
    }


def section(data: PageData, room: int) -> Section | None:
    """None where there are no examples of a finished run.

    Args:
        data: of the page.
        room: in bytes; of more images than fit, some are left out, evenly.
    """
    examples = data.examples
    if examples is None:
        return None
    runs = held(data, examples)
    shown = _fitting(examples, runs, room) if runs else []
    if not shown:
        return None
    places = {id: place for place, id in enumerate(next(iter(runs.values())).image_ids())}
    images = [_image(examples, image, places.get(image.id), runs) for image in shown]
    occurring = sorted({id for image in images for id in image["present"]})
    seeds = sorted({seed for _, seed in runs})
    content = {
        "where": data.where,
        "seeds": seeds,
        "seed": max(seeds, key=lambda seed: sum(other == seed for _, other in runs)),  # of most variants; the first of several
        "variants": [{"name": row.name, "title": row.title, "swatch": data.looks[row.name].swatch} for row in data.study.rows],
        "classes": [{"id": id, "name": examples.classes[id]} for id in occurring],
        "shown": len(shown),
        "there": len(examples.images),
        "total": len(places),
        "based": [
            {"name": row.name, "title": f"{row.title} over {data.study.row(row.on).title}"} for row in data.study.rows if row.on
        ],
    }
    return Section("browser", "Predictions", content, data=_shared(data, examples) | {"images": images})


def _shared(data: PageData, examples: Examples) -> dict[str, Any]:
    """What all images have in common; ``codes`` are the colours in their files.

    Whether class 0 is the background decides which kinds of errors there are.
    """
    colours, codes = class_palette(examples.classes), voc_palette()
    return {
        "classes": list(examples.classes),
        "colours": [colours[id].tolist() for id in range(len(examples.classes))],
        "codes": [codes[id].tolist() for id in range(len(examples.classes))],
        "void": colours[VOID].tolist(),
        "background": is_background(examples.classes[0]),
        "variants": [
            {
                "name": row.name,
                "title": row.title,
                "on": row.on,
                "swatch": data.looks[row.name].swatch,
                "states": {seed: run.status for seed, run in row.runs.items() if not run.done},
            }
            for row in data.study.rows
        ],
    }


def _fitting(examples: Examples, runs: Mapping[tuple[str, int], Run], room: int) -> list[ExampleImage]:
    """The images that fit into ``room`` bytes once they are in base64, spread evenly."""
    keys = [run.folder.key for run in runs.values()]
    sizes = [
        sum(
            4 * math.ceil(path.stat().st_size / 3) + _AROUND
            for path in (examples.image(image), examples.truth(image), *(examples.prediction(image, key) for key in keys))
        )
        for image in examples.images
    ]
    for number in range(len(sizes), 0, -1):
        chosen = spread_evenly(len(sizes), number)
        if sum(sizes[place] for place in chosen) <= room:
            return [examples.images[place] for place in chosen]
    return []


def _image(examples: Examples, image: ExampleImage, place: int | None, runs: Mapping[tuple[str, int], Run]) -> dict[str, Any]:
    truth = read_ids(examples.truth(image))
    present = [int(id) for id in np.unique(truth) if id != VOID]
    predicted: dict[str, dict[int, Any]] = {}
    for (row, seed), run in runs.items():
        path = examples.prediction(image, run.folder.key)
        entry: dict[str, Any] = {"src": _uri(path, "png")}
        if place is not None:
            entry |= _scores(run.counts()[place])
        predicted.setdefault(row, {})[seed] = entry
    if place is not None:  # in the whole image: a small object may vanish when it is scaled down
        present = [int(id) for id in np.flatnonzero(next(iter(runs.values())).counts()[place].sum(1))]
    return {
        "id": image.id,
        "width": image.width,
        "height": image.height,
        "image": _uri(examples.image(image), "jpeg"),
        "truth": _uri(examples.truth(image), "png"),
        "present": present,
        "runs": predicted,
        "disagreement": _disagreement(examples, image, runs, truth),
    }


def _scores(counts: NDArray[np.int64]) -> dict[str, Any]:
    """IoU in % of one image, from its confusion counts (C, C): of each class in its truth, and their mean."""
    known = {int(id): round(100 * float(value), 2) for id, value in enumerate(iou_per_class(counts)) if np.isfinite(value)}
    return {"miou": sum(known.values()) / len(known) if known else None, "iou": known}


def _disagreement(
    examples: Examples, image: ExampleImage, runs: Mapping[tuple[str, int], Run], truth: NDArray[np.uint8]
) -> dict[int, float]:
    """By seed, the share of labelled pixels in % on which the variants' predictions are not all the same."""
    found = {}
    labelled = truth != VOID
    for seed in sorted({seed for _, seed in runs}):
        ids = [read_ids(examples.prediction(image, run.folder.key)) for (_, other), run in runs.items() if other == seed]
        differing = np.any([one != ids[0] for one in ids], axis=0) & labelled
        found[seed] = round(100 * float(differing.sum() / max(1, labelled.sum())), 2)
    return found


def _uri(path: Path, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
