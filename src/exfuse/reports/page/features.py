"""What SEB does to the low-level maps: pictures and numbers that `exfuse report features` left in the study's folder."""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from exfuse.errors import plural
from exfuse.reports.page.data import PageData, Section
from exfuse.store.features import FeatureIndex, FeaturePicture, SummaryRow, find_features
from exfuse.store.metric import number

_ARROW = "\N{RIGHTWARDS ARROW}"
_AROUND = 400  # bytes of HTML around a picture, at most


def section(data: PageData, room: int) -> Section | None:
    """None where the study has no feature pictures.

    Args:
        data: of the page.
        room: in bytes; pictures that do not fit are left out, those of later seeds first.

    Raises:
        UserError: if the folder of the pictures is not whole.
    """
    index = find_features(data.study.folder)
    if index is None:
        return None
    keys = _finished(data)
    pictures, summary = (tuple(one for one in found if one.run in keys) for found in (index.pictures, index.summary))
    if not pictures and not summary:
        return None
    index = msgspec.structs.replace(index, pictures=pictures, summary=summary)
    shown = _fitting(index, room)
    images = [
        {"id": image, "pictures": [_picture(index, one, data) for one in shown if one.image == image]}
        for image in dict.fromkeys(one.image for one in shown)
    ]
    content = {
        "images": images,
        "left_out": len(index.pictures) - len(shown),
        "data": index.data,
        "split": index.split,
        "number": index.images,
        **_numbers(index, data),
    }
    return Section("features", "Low-level maps", content)


def why_not_all(data: PageData) -> str:
    """A sentence on maps in the study's folder that are of none of its runs; empty if there are none."""
    index = find_features(data.study.folder)
    others = set() if index is None else {one.key for one in index.runs} - _finished(data)
    if not others:
        return ""
    return (
        f"Low-level maps of {plural(len(others), 'run')} that the study does not hold are left out: exfuse report features "
        "draws them anew."
    )


def _finished(data: PageData) -> set[str]:
    return {run.folder.key for row in data.study.rows for run in row.runs.values() if run.done}


def _fitting(index: FeatureIndex, room: int) -> list[FeaturePicture]:
    """The pictures that fit into ``room`` bytes once they are in base64, in the order of the index."""
    chosen = set()
    for picture in sorted(index.pictures, key=lambda one: one.seed):
        size = 4 * (index.folder / picture.file).stat().st_size // 3 + _AROUND
        if size > room:
            break
        room -= size
        chosen.add(picture.file)
    return [picture for picture in index.pictures if picture.file in chosen]


def _picture(index: FeatureIndex, picture: FeaturePicture, data: PageData) -> dict[str, str]:
    encoded = base64.b64encode((index.folder / picture.file).read_bytes()).decode()
    title = f"{_title(picture.row, data)}, seed {picture.seed}, {picture.level}"
    return {
        "title": title,
        "src": f"data:image/png;base64,{encoded}",
        "alt": f"{picture.level} of {title} before and after SEB",
    }


def _title(row: str, data: PageData) -> str:
    return next((one.title for one in data.study.rows if one.name == row), row)


def _numbers(index: FeatureIndex, data: PageData) -> dict[str, Any]:
    """One line a run and level, one column a statistic: before and after, mean over images."""
    statistics = list(dict.fromkeys(one.statistic for one in index.summary))
    lines: dict[tuple[str, str, int, str], dict[str, SummaryRow]] = {}
    for one in index.summary:
        lines.setdefault((one.run, one.row, one.seed, one.level), {})[one.statistic] = one
    rows = [
        {
            "title": _title(row, data),
            "swatch": data.looks[row].swatch if row in data.looks else "background: var(--grid-strong)",
            "seed": seed,
            "level": level,
            "cells": _cells(found, statistics),
        }
        for (_, row, seed, level), found in lines.items()
    ]
    return {"statistics": [name.replace("_", " ") for name in statistics], "rows": rows}


def _cells(found: dict[str, SummaryRow], statistics: Sequence[str]) -> list[str]:
    texts = []
    for name in statistics:
        values = [found[name].before, found[name].after] if name in found else []
        texts.append(f" {_ARROW} ".join(number(value, 2) for value in values if value is not None))
    return texts
