"""Every number of a study, one a line: of every run, class and comparison; for programs that draw or test for themselves."""

import csv
import io
from collections.abc import Iterator

from exfuse.analysis.comparisons import Compared
from exfuse.files import as_cell
from exfuse.store.costs import COSTS
from exfuse.store.metric import MIOU
from exfuse.store.record import Record
from exfuse.store.study import Study

COLUMNS = ("row", "seed", "of", "class", "value")


def render(study: Study, compared: Compared) -> str:
    """Scores and differences in the metric's unit, costs in those of their names, unrounded; empty: there is none."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, seed, record in study.done():
        writer.writerows([as_cell(row.name), seed, *line] for line in _of_run(record))
    for one in compared.rows.values():
        if one.interval is not None:
            found: dict[str, float | None] = {
                "estimate": one.interval.estimate,
                "low": one.interval.low,
                "high": one.interval.high,
            }
            found |= {"p": one.interval.p_value, "p_holm": one.adjusted}
            writer.writerows([as_cell(one.row), "", f"difference to {one.base}: {name}", "", found[name]] for name in found)
    return file.getvalue()


def _of_run(record: Record) -> Iterator[tuple[str, object, float | None]]:
    yield ("miou" if record.metric == MIOU else record.metric.name), "", record.score
    if record.scored is not None:
        yield "pixel_accuracy", "", record.scored.pixel_accuracy
        for name, value in record.scored.iou.items():
            yield "iou", as_cell(name), value
    for cost in COSTS:
        yield cost.key, "", record.cost(cost.key)
