"""The heat map: IoU of every class and row, and what a row changes against the row that it builds on."""

import math
import statistics
from typing import Any, NamedTuple

from exfuse.analysis.figures.classes import agreed, changes, pairs
from exfuse.analysis.frequent import by_images, with_images
from exfuse.reports.page.data import PageData, Section
from exfuse.store.metric import number
from exfuse.store.study import StudyRow

_STEPS = 8  # shades on either side of nothing; chosen
_PALE = 0.3  # of its shade has a change on whose direction the seeds do not agree; chosen


class _Line(NamedTuple):
    """A row's name, what it builds on ('vs baseline' or nothing), its sign, and by class a value and whether it is sure."""

    title: str
    base: str
    swatch: str
    values: dict[str, float]
    sure: dict[str, bool]


def section(data: PageData) -> Section | None:
    """None where no run was scored by class. A table, not a chart: it reads without a script and scrolls on a phone."""
    rows = [row for row in data.study.rows if row.records and all(record.scored for record in row.records.values())]
    if not rows:
        return None
    absolute = [_Line(row.title, "", data.looks[row.name].swatch, _means(row), {}) for row in rows]
    differences = [
        _Line(row.title, f"vs {base.title}", data.looks[row.name].swatch, changes(row, base), agreed(row, base))
        for row, base in pairs(data.study)
    ]
    maps = []
    if differences:
        largest = max((abs(value) for one in differences for value in one.values.values() if math.isfinite(value)), default=1.0)
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


def _heat(kind: str, title: str, rows: list[_Line], largest: float, signed: bool) -> dict[str, Any]:
    """Cells with a text and a shade: from -8 to 8 for changes, 0 to 8 for scores; paler where the seeds do not agree."""
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    present = [name for name in names if any(math.isfinite(row.values.get(name, math.nan)) for row in rows)]
    lines = []
    for row in rows:
        cells = []
        for name in present:
            value = row.values.get(name, math.nan)
            known = math.isfinite(value)
            full = round(_STEPS * max(-1.0, min(1.0, value / largest))) if known else None
            shade = round(_PALE * full, 1) if full and not row.sure.get(name, True) else full
            cells.append({"text": number(value, signed=signed) if known else "absent", "shade": shade})
        lines.append({"title": row.title, "base": row.base, "swatch": row.swatch, "cells": cells})
    pale = not all(one for row in rows for one in row.sure.values())
    absent = [name for name in names if name not in present]
    return {"kind": kind, "title": title, "classes": present, "rows": lines, "absent": absent, "pale": pale}
