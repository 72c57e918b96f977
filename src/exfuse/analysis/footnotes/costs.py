"""What costs are costs of, and how they were measured."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from exfuse.analysis.document import SHOWN, TIMES
from exfuse.analysis.footnotes.wording import joined
from exfuse.errors import plural, some
from exfuse.store.costs import COSTS, RowCosts
from exfuse.store.measured_costs import FILE, Conditions, MeasuredCosts
from exfuse.store.record import Record, uncommitted_text
from exfuse.store.study import TOLERANCE, Study

_MEANS = "means over seeds; in parentheses: the difference to the row that a row builds on."


def about_costs(study: Study, records: Sequence[Record]) -> list[str]:
    """Of multiply-adds, latency, throughput and memory; the latter three from ``costs.json`` where the study has one.

    Args:
        study: of the table.
        records: of its finished runs.
    """
    if study.withheld:
        names = ", ".join(column.header for column in COSTS if column.key in study.withheld)
        said = f"Withheld: {names}, in which rows of one architecture differ by more than {100 * TOLERANCE:.0f} %."
        return [said, *about_costs(replace(study, withheld=()), records)]
    costs = [record.costs for record in records if record.costs]
    counter = joined(one.counter for one in costs)
    counted = f"GMACs: 10⁹ multiply-adds of one input {_shapes(one.input for one in costs)} ({counter})"
    if study.measured is not None:
        return [*([f"{counted}. Parameters and GMACs are {_MEANS}"] if costs else []), *_measured(study, study.measured)]
    if not costs:
        return ["Costs were not measured."]
    memory = joined(one.memory_of for one in costs)
    return [f"{counted}; latency of the same input. Memory: peak of the {memory}. Costs are {_MEANS}"]


def _measured(study: Study, measured: MeasuredCosts) -> list[str]:
    by_row = {row.title: measured.of(row.records.values()) for row in study.rows if row.records}
    found = [costs for costs in by_row.values() if costs is not None]
    sentences = [_how(found, measured.conditions), *_busy(measured.conditions)] if found else []
    if missing := [title for title, costs in by_row.items() if costs is None]:
        verb = "it is" if len(missing) == 1 else "they are"
        listed = some(missing, SHOWN)
        sentences.append(f"Not in {FILE} as {verb} now, so without latency, throughput and memory: {listed}.")
    return sentences


def _how(rows: Sequence[RowCosts], under: Conditions) -> str:
    worst = max(one.share for row in rows for one in (row.latency_ms, row.train_images_per_second))
    commit = str(under.commit or "unknown")[:7] + uncommitted_text(under.uncommitted_changes)
    layouts = f" in {joined(row.layout for row in rows)}" if all(row.layout for row in rows) else ""
    return (
        f"Latency, throughput: all rows measured in one process on {under.name}, {plural(under.threads, 'thread')} ({FILE}), "
        f"torch {under.torch}, commit {commit}: medians of {plural(under.rounds, 'round')} in which the rows take turns, "
        f"quartiles within {100 * worst:.0f} % of them. Latency: of one input {_shapes(row.input for row in rows)} in float32. "
        f"Throughput: of training steps with random images {_shapes(row.batch for row in rows)}, precision "
        f"{joined(row.precision for row in rows)}{layouts}, without loading. "
        f"Memory: of such steps, peak of the {under.memory_of}, "
        f"{'each row in a process of its own' if under.device == 'cpu' else 'one row at a time'}."
    )


def _busy(under: Conditions) -> list[str]:
    if not under.busy:
        return []
    load = f"load average {under.load:.1f}, {plural(under.cores, 'core')}"
    return [f"The machine was busy with other work when measuring began ({load}): these times are not to be trusted."]


def _shapes(shapes: Iterable[Sequence[int]]) -> str:
    return joined(TIMES.join(map(str, shape)) for shape in shapes)
