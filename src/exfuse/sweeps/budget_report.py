"""A budget as a table in the terminal, and as files to publish."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE

from exfuse.analysis.formats.markdown import table_lines
from exfuse.errors import plural, rounded
from exfuse.files import write_csv, write_text
from exfuse.sweeps.budget import Budget, Training
from exfuse.terminal import RichTable, table_columns

_COLUMNS = (
    "backbone",
    "training",
    "M parameters",
    "GFLOP an image",
    "GB an image",
    "images",
    "peak GiB",
    "runs",
    "EFLOP",
    "hours",
    "measured",
)
_WORDS = ("backbone", "training")
_UNSHOWN = ("backbone", "GB an image", "EFLOP")  # in the terminal
_SHORT = {"M parameters": "M par.", "GFLOP an image": "GFLOP", "peak GiB": "GiB"}  # there
_STYLE: dict[str, Any] = {
    "show_footer": True,
    "box": SIMPLE,
    "padding": (0, 1, 0, 0),
    "pad_edge": False,
}


def budget_table(budget: Budget) -> RichTable:
    """One line a training, the sum last, within 80 columns."""
    names, lines = _table([budget])
    shown = [place for place, name in enumerate(names) if name not in _UNSHOWN]
    *rows, total = ([line[place] for place in shown] for line in lines)
    headers = [_SHORT.get(name, name) for name in ("hours" if names[at].endswith(" hours") else names[at] for at in shown)]
    table = RichTable(
        *table_columns(headers, _WORDS, total), title=f"{budget.backbone}: {budget.data}; {budget.recipe}", **_STYLE
    )
    for row in rows:
        table.add_row(*row)
    return table


def assumptions(budget: Budget) -> str:
    """What the hours and the memory stand on."""
    device = budget.device
    of = "of the process, its libraries included" if budget.on_cpu else "of a GPU's allocator, without workspaces of cuDNN"
    grows = ""
    if budget.grows is not None:
        counted, most = budget.grows
        grows = (
            f" sweep.until=decided: {plural(counted, 'seed')} of every row {'is' if counted == 1 else 'are'} counted, and up "
            f"to {most} trained (sweep.most): at most {math.ceil(10 * most / counted) / 10:,.10g} times the hours of all but "
            "a search."
        )
    measured = " Measured: as many images at the rate of the row's fastest run, steps alone." if _measured([budget]) else ""
    return (
        f"An estimate, not a measurement, for one {device.kind} that sustains {device.tflops:g} TFLOP/s and "
        f"{device.terabytes:g} TB/s with {device.element} bytes a number (tflops=, terabytes=, element=). Each operation "
        "of the forward and backward pass takes as long as its arithmetic or its memory traffic. Left out: the optimiser, "
        f"validation, loading. Peak GiB: {of}, in a training step with as many images as a device takes at once."
        f"{measured}{grows}"
    )


def write_budget(folder: Path, budgets: Sequence[Budget], command: str) -> list[Path]:
    """Write ``budget.md`` and ``budget.csv`` into ``folder``, which is made if missing.

    Args:
        command: by which they are made again.
    """
    names, rows = _table(budgets)
    settings = [f"- {budget.backbone}: {budget.data}; {budget.recipe}" for budget in budgets]
    rule = ["---" if name in _WORDS else "---:" for name in names]
    table = table_lines(names, rows, rule)
    told = dict.fromkeys(map(assumptions, budgets))
    text = "\n".join(["# Budget", "", f"`{command}`", "", *told, "", *settings, "", *table, ""])

    paths = budget_files(folder)
    write_text(paths[0], text)
    write_csv(paths[1], [names, *rows])
    return paths


def budget_files(folder: Path) -> list[Path]:
    """What `write_budget` writes."""
    return [folder / "budget.md", folder / "budget.csv"]


def _table(budgets: Sequence[Budget]) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the lines, a sum behind those of each budget."""
    width = None if _measured(budgets) else -1
    kinds = {budget.device.kind for budget in budgets}
    hours = f"{kinds.pop()} hours" if len(kinds) == 1 else "hours"
    names = [hours if name == "hours" else name for name in _COLUMNS][:width]
    lines = [line for budget in budgets for line in (*(_cells(budget, one) for one in budget.trainings()), _sum(budget))]
    return names, [line[:width] for line in lines]


def _measured(budgets: Sequence[Budget]) -> bool:
    return any(training.rate for budget in budgets for training in budget.trainings())


def _cells(budget: Budget, training: Training) -> list[str]:
    cost = training.cost
    return [
        budget.backbone,
        training.name,
        f"{training.parameters / 1e6:.1f}",
        f"{cost.gigaflops:.1f}",
        f"{cost.gigabytes:.2f}",
        f"{training.images:,}",
        f"{training.peak / 2**30:.2f}",
        str(training.runs),
        f"{training.runs * training.images * cost.gigaflops / 1e9:.2f}",
        _hours(training.hours(budget.device)),
        _hours(training.hours_taken),
    ]


def _sum(budget: Budget) -> list[str]:
    trainings = budget.trainings()
    operations = sum(training.runs * training.images * training.cost.gigaflops / 1e9 for training in trainings)
    runs = sum(training.runs for training in trainings)
    return [budget.backbone, "all", "", "", "", "", "", str(runs), f"{operations:.2f}", _hours(budget.hours()), ""]


def _hours(hours: float | None) -> str:
    if hours is None:
        return ""
    return rounded(hours) if hours >= 0.001 else "<0.001"
