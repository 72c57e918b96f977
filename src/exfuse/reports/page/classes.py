"""The heat map: IoU of every class and row, and what a row changes against the row that it builds on."""

import math
import statistics
from typing import Any

from exfuse.analysis.figures.classes import changes, pairs
from exfuse.analysis.frequent import by_images, with_images
from exfuse.reports.page.data import PageData, Section
from exfuse.store.metric import number
from exfuse.store.study import StudyRow

Line = tuple[tuple[str, str], str, dict[str, float]]  # name and base of a row, its swatch, a value by class

_STEPS = 8  # shades on either side of nothing; chosen


def section(data: PageData) -> Section | None:
    """None where no run was scored by class. A table, not a chart: it reads without a script and scrolls on a phone."""
    rows = [row for row in data.study.rows if row.records and all(record.scored for record in row.records.values())]
    if not rows:
        return None
    absolute = [((row.title, ""), data.looks[row.name].swatch, _means(row)) for row in rows]
    differences = [
        ((row.title, f"vs {base.title}"), data.looks[row.name].swatch, changes(row, base)) for row, base in pairs(data.study)
    ]
    maps = []
    if differences:
        largest = max((abs(value) for _, _, one in differences for value in one.values() if math.isfinite(value)), default=1.0)
        maps.append(_heat("change", "Change against the row it builds on (points)", differences, largest or 1.0, signed=True))
    maps.append(_heat("iou", "IoU (%)", absolute, 100.0, signed=False))
    for one in maps:
        one["classes"] = with_images(data.study, one["classes"])
    return Section("classes", "Classes", {"where": data.where, "maps": maps, "rare": by_images(data.study) is not None})


def _means(row: StudyRow) -> dict[str, float]:
    """IoU of each class in %, mean over the finished seeds; not a number for an absent class."""
    found: dict[str, float] = {}
    for name in next(iter(row.records.values())).scores.iou:
        values = [record.scores.iou.get(name) for record in row.records.values()]
        known = [100 * value for value in values if value is not None]
        found[name] = statistics.mean(known) if known else math.nan
    return found


def _heat(kind: str, title: str, rows: list[Line], largest: float, signed: bool) -> dict[str, Any]:
    """Cells with a text and a shade: from -8 to 8 for changes, 0 to 8 for scores."""
    names = list(dict.fromkeys(name for _, _, values in rows for name in values))
    present = [name for name in names if any(math.isfinite(values.get(name, math.nan)) for _, _, values in rows)]
    lines = []
    for name_and_base, swatch, values in rows:
        cells = []
        for name in present:
            value = values.get(name, math.nan)
            known = math.isfinite(value)
            shade = round(_STEPS * max(-1.0, min(1.0, value / largest))) if known else None
            cells.append({"text": number(value, signed=signed) if known else "absent", "shade": shade})
        lines.append({"title": name_and_base[0], "base": name_and_base[1], "swatch": swatch, "cells": cells})
    absent = [name for name in names if name not in present]
    return {"kind": kind, "title": title, "classes": present, "rows": lines, "absent": absent}
