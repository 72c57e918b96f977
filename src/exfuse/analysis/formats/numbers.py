"""Every number of a study, one a line: of every run, class and comparison; for programs that draw or test for themselves."""

from collections.abc import Iterator, Sequence

from exfuse.analysis.comparisons import Compared
from exfuse.files import as_cell, as_csv
from exfuse.store.costs import COSTS
from exfuse.store.metric import MIOU
from exfuse.store.record import Record
from exfuse.store.study import Study

COLUMNS = ("row", "seed", "of", "class", "value")


def render(study: Study, compared: Compared) -> str:
    """Scores and differences in the metric's unit, costs in those of their names, unrounded; empty: there is none."""
    lines: list[Sequence[object]] = [
        COLUMNS,
        *([row.name, seed, *line] for row, seed, record in study.done() for line in _of_run(record)),
    ]
    for one in compared.rows.values():
        if one.interval is not None:
            numbers = (one.interval.estimate, one.interval.low, one.interval.high, one.interval.p_value, one.adjusted)
            for name, number in zip(("estimate", "low", "high", "p", "p_holm"), numbers, strict=True):
                lines.append([one.row, "", f"difference to {one.base}: {name}", "", number])
    return as_csv(map(as_cell, line) for line in lines)


def _of_run(record: Record) -> Iterator[tuple[str, object, float | None]]:
    yield ("miou" if record.metric == MIOU else record.metric.name), "", record.score
    if record.scored is not None:
        yield "pixel_accuracy", "", record.scored.pixel_accuracy
        for name, value in record.scored.iou.items():
            yield "iou", name, value
    for cost in COSTS:
        yield cost.key, "", record.cost(cost.key)
