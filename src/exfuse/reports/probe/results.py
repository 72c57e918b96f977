"""Scores of all probes, one line each, and what several seeds say together."""

import math
import statistics
from collections.abc import Sequence

from rich import box
from rich.table import Table
from scipy import stats

from exfuse.reports.probe.cells import QUESTIONS
from exfuse.store.probes import ProbeResult, ProbeSummary

_WHAT = {"class": "class of a cell", "border": "border or not"}


def summarise(results: Sequence[ProbeResult]) -> list[ProbeSummary]:
    """Mean, spread and interval over seeds, by question, level and row, rows in the order in which they first come."""
    groups: dict[tuple[str, str, str], list[ProbeResult]] = {}
    for result in results:
        groups.setdefault((result.question, result.level, result.row), []).append(result)
    order = {row: place for place, row in enumerate(dict.fromkeys(result.row for result in results))}
    keys = sorted(groups, key=lambda key: (QUESTIONS.index(key[0]), key[1], order[key[2]]))
    return [_summary(groups[key]) for key in keys]


def _summary(group: Sequence[ProbeResult]) -> ProbeSummary:
    before, after = [one.before for one in group], [one.after for one in group]
    differences = [one.after - one.before for one in group]
    difference, low, high = statistics.mean(differences), None, None
    if len(group) > 1:
        reach = stats.t.ppf(0.975, len(group) - 1) * statistics.stdev(differences) / math.sqrt(len(group))
        low, high = difference - reach, difference + reach
    first = group[0]
    return ProbeSummary(
        first.row,
        first.level,
        first.question,
        len(group),
        statistics.mean(before),
        statistics.stdev(before) if len(group) > 1 else None,
        statistics.mean(after),
        statistics.stdev(after) if len(group) > 1 else None,
        difference,
        low,
        high,
        statistics.mean(one.chance for one in group),
    )


def summary_tables(summaries: Sequence[ProbeSummary], title: str) -> list[Table]:
    """The summaries for a terminal, in %, a table a question; they fit into 80 columns."""
    found = []
    for question in dict.fromkeys(one.question for one in summaries):
        chosen = [one for one in summaries if one.question == question]
        heading = f"{title}\n{_WHAT[question]}; guessing: {100 * chosen[0].chance:.1f}"
        table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("level", no_wrap=True)
        table.add_column("row", overflow="fold")
        for header in ("before", "after", "after - before [95 %]", "seeds"):
            table.add_column(header, justify="right", no_wrap=True)
        for one in chosen:
            changed = (mean_text(one.after, one.after_sd), difference_text(one)) if one.difference else ("as before", "")
            table.add_row(one.level, one.row, mean_text(one.before, one.before_sd), *changed, str(one.seeds))
        found.append(table)
    return found


def mean_text(mean: float, spread: float | None) -> str:
    """In %: ``43.2 ± 0.8``."""
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def difference_text(one: ProbeSummary) -> str:
    """In points: ``+1.2 [+0.4, +2.0]``."""
    text = f"{100 * one.difference:+.1f}"
    return text if one.low is None or one.high is None else f"{text} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
