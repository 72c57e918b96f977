"""A budget as a table in the terminal, and as files to publish."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE

from exfuse.files import write_csv, write_text
from exfuse.sweeps.budget import Budget, Device, Training
from exfuse.terminal import Table, columns

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
    "GPU hours",
)
_WORDS = ("backbone", "training")
_SHOWN = ("training", "M parameters", "GFLOP an image", "images", "peak GiB", "runs", "GPU hours")  # in the terminal
_SHORT = {"M parameters": "M par.", "GFLOP an image": "GFLOP", "peak GiB": "GiB", "GPU hours": "hours"}  # there
_STYLE: dict[str, Any] = {
    "show_footer": True,
    "box": SIMPLE,
    "padding": (0, 1, 0, 0),
    "pad_edge": False,
}


def budget_table(budget: Budget, device: Device) -> Table:
    """One line a training, the sum last, within 80 columns."""
    cells = [dict(zip(_COLUMNS, line, strict=True)) for line in _lines(budget, device)]
    *rows, total = ([line[column] for column in _SHOWN] for line in cells)
    headers = [_SHORT.get(column, column) for column in _SHOWN]
    table = Table(*columns(headers, _WORDS, total), title=f"{budget.backbone}: {budget.data}; {budget.recipe}", **_STYLE)
    for row in rows:
        table.add_row(*row)
    return table


def assumptions(device: Device, on_cpu: bool) -> str:
    """What the hours and the memory stand on."""
    of = "of the process on a CPU, its libraries included" if on_cpu else "of a GPU's allocator, without workspaces of cuDNN"
    return (
        f"An estimate, not a measurement, for one GPU that sustains {device.tflops:g} TFLOP/s and {device.terabytes:g} TB/s "
        f"with {device.element} bytes a number (chosen: tflops=, terabytes=, element=). Each operation of the forward and "
        "backward pass takes as long as its arithmetic or its memory traffic. Left out: the optimiser, validation, loading. "
        f"Peak GiB: {of}, in a training step with as many images as a device takes at once."
    )


def write_budget(folder: Path, budgets: Sequence[Budget], device: Device, command: str) -> list[Path]:
    """Write ``budget.md`` and ``budget.csv`` into ``folder``, which is made if missing.

    Args:
        command: by which they are made again.
    """
    rows = [cells for budget in budgets for cells in _lines(budget, device)]
    settings = [f"- {budget.backbone}: {budget.data}; {budget.recipe}" for budget in budgets]
    rule = ["---" if column in _WORDS else "---:" for column in _COLUMNS]
    table = ["| " + " | ".join(cells) + " |" for cells in (_COLUMNS, rule, *rows)]
    text = "\n".join(
        ["# Budget", "", f"`{command}`", "", assumptions(device, budgets[0].on_cpu), "", *settings, "", *table, ""]
    )

    paths = files(folder)
    write_text(paths[0], text)
    write_csv(paths[1], [_COLUMNS, *rows])
    return paths


def files(folder: Path) -> list[Path]:
    """What `write_budget` writes."""
    return [folder / "budget.md", folder / "budget.csv"]


def _lines(budget: Budget, device: Device) -> list[list[str]]:
    return [*(_cells(budget, training, device) for training in budget.trainings()), _sum(budget, device)]


def _cells(budget: Budget, training: Training, device: Device) -> list[str]:
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
        _hours(training.hours(device)),
    ]


def _sum(budget: Budget, device: Device) -> list[str]:
    trainings = budget.trainings()
    operations = sum(training.runs * training.images * training.cost.gigaflops / 1e9 for training in trainings)
    runs = sum(training.runs for training in trainings)
    return [budget.backbone, "all", "", "", "", "", "", str(runs), f"{operations:.2f}", _hours(budget.hours(device))]


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}" if hours >= 0.001 else f"{hours:.3f}"
